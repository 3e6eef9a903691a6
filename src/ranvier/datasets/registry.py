"""What is known of the datasets of Collin et al. 2024, and where each can be had.

The ten names are those of the paper "Multi-Domain Data Aggregation for Axon and Myelin Segmentation
in Histology Images" (Collin, Boschet, Boudreau, Cohen-Adad 2024, arXiv:2409.11552). A fact that none
of the sources below states is None and printed as "not stated"; ``sources`` of an entry says which of
them its facts were taken from.

- ``dandi``: the dandiset's metadata (dandiset.yaml, github.com/dandisets/NUMBER).
- ``sidecar``: a JSON sidecar inside the dandiset (its pixel size).
- ``ASTIH``: github.com/axondeepseg/ASTIH, scripts/dataset_list.json, how_to_add_data.md and docs/index.html.
- ``model cards``: github.com/axondeepseg/axondeepseg, AxonDeepSeg/model_cards.py.
- ``generalist``: github.com/axondeepseg/model_seg_generalist, README.md.
- ``human BF model``, ``rabbit BF model``: README.md of github.com/axondeepseg/model_seg_human_axon-myelin_bf and
  of github.com/axondeepseg/model_seg_rabbit_axon-myelin_bf.
- ``scores``: the names of the test sets in the published scores of the paper (SEM2_human, TEM2_macaque, ...).
- ``paper``: only the dataset's name and its modality, which the name says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ranvier.errors import SettingsError

NOT_STATED = "not stated"

PAPER = "Collin et al. 2024, arXiv:2409.11552"
_AUTHORS = (
    "no public copy is known; ask the paper's authors (NeuroPoly Lab, Polytechnique Montreal, "
    "axondeepseg@googlegroups.com)"
)


@dataclass(frozen=True)
class Dandiset:
    """A dataset's place in the DANDI archive.

    Attributes
    ----------
    number
        Six digits.
    version
        The published version that is fetched unless another is asked for.
    """

    number: str
    version: str


@dataclass(frozen=True)
class Dataset:
    """One dataset and what its sources state of it; None stands for what they do not.

    Attributes
    ----------
    name
        Its name in the paper; ``TEM_SRF`` is not one of the paper's.
    modality
        TEM, SEM, CARS or BF (bright field).
    images
        How many micrographs, with and without annotation.
    megapixels
        Of all images together.
    um_per_pixel
        Smallest and largest pixel size in micrometres.
    annotated
        Whether (and of how many images) there are masks.
    dandiset
        Its place in the DANDI archive; None where it is not public.
    holder
        Who holds a dataset that is not public.
    sources
        Where the facts come from, in the words of this module's docstring.
    """

    name: str
    modality: str
    species: str | None = None
    organ: str | None = None
    pathology: str | None = None
    images: int | None = None
    megapixels: float | None = None
    um_per_pixel: tuple[float, float] | None = None
    annotated: str | None = None
    dandiset: Dandiset | None = None
    holder: str = _AUTHORS
    licence: str | None = None
    reference: str = PAPER
    sources: str = "paper"
    of_the_paper: bool = True

    @property
    def public(self) -> bool:
        """Whether it can be fetched."""
        return self.dandiset is not None

    @property
    def where(self) -> str:
        """DANDI number and version, or who holds it."""
        if self.dandiset is None:
            return self.holder
        return f"DANDI {self.dandiset.number}/{self.dandiset.version}"


DATASETS: tuple[Dataset, ...] = (
    Dataset(
        "TEM1",
        "TEM",
        species="mouse",
        organ="brain (corpus callosum, splenium)",
        pathology="control and cuprizone-intoxicated",
        images=158,
        um_per_pixel=(0.00236, 0.00236),
        annotated="yes",
        dandiset=Dandiset("001436", "0.250512.1625"),
        licence="CC-BY-4.0",
        reference="Jelescu et al. 2025, doi:10.48324/dandi.001436/0.250512.1625",
        sources="dandi, sidecar, ASTIH",
    ),
    Dataset("TEM2", "TEM", species="macaque", annotated="yes", sources="paper, scores"),
    Dataset(
        "SEM1",
        "SEM",
        species="rat",
        organ="spinal cord (cervical)",
        images=10,
        megapixels=14.8,  # model cards
        um_per_pixel=(0.05, 0.18),  # dandi; the model cards say 0.13
        annotated="yes",
        dandiset=Dandiset("001442", "0.250512.1626"),
        licence="CC-BY-4.0",
        reference="Saliani et al. 2025, doi:10.48324/dandi.001442/0.250512.1626",
        sources="dandi, model cards, ASTIH",
    ),
    Dataset("SEM2", "SEM", species="human", annotated="yes", sources="paper, scores"),
    Dataset("SEM3", "SEM"),
    Dataset(
        "CARS1",
        "CARS",
        species="rat",
        organ="spinal cord",
        megapixels=2.6,
        um_per_pixel=(0.225, 0.225),
        annotated="yes",
        sources="model cards, scores",
    ),
    Dataset(
        "BF1",
        "BF",
        species="rat",
        organ="peripheral nerve",
        pathology="nerve repair, several stages of regeneration",
        images=8,
        um_per_pixel=(0.1, 0.1),
        annotated="yes",
        dandiset=Dandiset("001440", "0.250509.1913"),
        licence="CC-BY-4.0",
        reference="Daeschler et al. 2025, doi:10.48324/dandi.001440/0.250509.1913",
        sources="dandi, sidecar, ASTIH, scores",
    ),
    Dataset(
        "BF2",
        "BF",
        species="rabbit",
        organ="peripheral nerve",
        pathology="nerve repair",
        images=14,
        um_per_pixel=(0.211, 0.211),
        annotated="8 of 14",
        dandiset=Dandiset("001630", "0.251127.1424"),
        licence="CC-BY-4.0",
        reference="Collin et al. 2025, doi:10.48324/dandi.001630/0.251127.1424",
        sources="dandi, sidecar, ASTIH, rabbit BF model, scores",
    ),
    Dataset(
        "BF3",
        "BF",
        species="human",
        organ="peripheral nerve (tibial)",
        annotated="yes",
        holder="NeuroPoly Lab, Polytechnique Montreal: git-annex "
        "data.neuro.polymtl.ca:datasets/data_axondeepseg_wakehealth_training (not public)",
        sources="human BF model, generalist, scores",
    ),
    Dataset("BF4", "BF"),
    Dataset(
        "TEM_SRF",  # ASTIH calls it TEM2, which is another dataset in the paper
        "TEM",
        species="mouse",
        organ="brain (corpus callosum)",
        pathology="wild type and SRF conditional knockout",
        um_per_pixel=(0.00493, 0.00493),
        annotated="yes",
        dandiset=Dandiset("001350", "0.250511.1527"),
        licence="CC-BY-4.0",
        reference="Collin et al. 2025, doi:10.48324/dandi.001350/0.250511.1527",
        sources="dandi, sidecar, ASTIH",
        of_the_paper=False,
    ),
)


def find(name: str) -> Dataset:
    """Return the dataset of this name; upper and lower case are alike.

    Raises
    ------
    SettingsError
        No dataset is called so; the known ones are listed.
    """
    for dataset in DATASETS:
        if dataset.name == name.strip().upper():
            return dataset
    known = ", ".join(dataset.name for dataset in DATASETS)
    raise SettingsError("no dataset of this name is known", seen=name, fix=f"Known are {known}")


def table(datasets: Sequence[Dataset] = DATASETS) -> str:
    """Write datasets as a table for people, and what to cite for each below it."""
    head = "name modality species organ pathology images Mpx um/px annotated public licence where"
    rows = [head.split(), *(_row(d) for d in datasets)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines += ["", "cite (facts from):"]
    lines += [f"  {d.name.ljust(widths[0])}  {d.reference} ({d.sources})" for d in datasets]
    extra = [d.name for d in datasets if not d.of_the_paper]
    if extra:
        lines += ["", f"not one of the paper's ten: {', '.join(extra)}"]
    return "\n".join(lines)


def _row(d: Dataset) -> list[str]:
    facts = (d.species, d.organ, d.pathology, d.images, d.megapixels, _size(d), d.annotated)
    return [
        d.name,
        d.modality,
        *(NOT_STATED if fact is None else str(fact) for fact in facts),
        "yes" if d.public else "no",
        d.licence or NOT_STATED,
        d.where,
    ]


def _size(d: Dataset) -> str | None:
    if d.um_per_pixel is None:
        return None
    low, high = d.um_per_pixel
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
