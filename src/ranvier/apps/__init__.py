"""What users touch: parsing and showing only."""
