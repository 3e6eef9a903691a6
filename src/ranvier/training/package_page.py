"""The page of documentation that a package of bioimage.io carries."""

from __future__ import annotations

from ranvier.bundle import Bundle


def documentation(bundle: Bundle) -> str:
    """What someone needs to know who runs a model outside of Ranvier, as Markdown."""
    plan = bundle.patches
    lines = [
        f"# {bundle.name}",
        "",
        "Finds axons and their myelin in micrographs of nerve. It gives three planes: the probability of background, "
        "of myelin and of axon.",
        "",
        "## Before you run it",
        "",
    ]
    if plan is None:
        lines += [
            f"- Rows and columns must be multiples of {bundle.field.stride}, and at least {bundle.field.minimum}.",
            "- Grey levels are normalised over what the program passes in at once. The model was trained with the "
            "statistics of whole images: pass in whole images, or large tiles.",
            f"- It looks {bundle.field.receptive_radius} pixels far: tiles that overlap by less show seams.",
        ]
    else:
        rows, columns = plan.patch
        lines += [
            f"- It takes patches of {rows} x {columns} pixels, and no other size.",
            "- Grey levels are normalised over what the program passes in at once. The model was trained with the "
            "statistics of whole images.",
            "- It was imported from nnU-Net, whose own predictor averages overlapping and mirrored patches; a program "
            "that does not will come to somewhat different borders.",
        ]
        if any(channel.masked for channel in plan.channels):
            lines.append("- In training, pixels that are 0 were left out of the statistics.")
        if plan.order is not None:
            lines.append(
                "- Its labels are regions that overwrite each other. The class that they come to gets the certainty of "
                "that decision, the other two share the rest."
            )
    lines += [
        "",
        "## Where it comes from",
        "",
        f"Model `{bundle.name}` of Ranvier, sha256 {bundle.sha256}. `config.ranvier` says the same.",
    ]
    return "\n".join([*lines, "", "## Validation", "", *_validation(bundle)]) + "\n"


def _validation(bundle: Bundle) -> list[str]:
    """Scores on what was held out, where the bundle knows any."""
    scores = bundle.about["training"].get("validation")
    said = [
        f"- {source}: " + ", ".join(f"{key} {value:.3f}" for key, value in sorted(values.items()))
        for source, values in sorted(scores.items() if isinstance(scores, dict) else ())
        if isinstance(values, dict) and all(isinstance(v, float) for v in values.values())
    ]
    if not said:
        return [
            "Nothing here tells how good this model is: test it on annotated images of your own."
        ]
    return [str(bundle.about.get("how_scored", "On held-out images, by source:")), "", *said]
