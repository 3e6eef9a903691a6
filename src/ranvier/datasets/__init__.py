"""Annotated datasets: readers, subjects, folds and phantoms."""
