"""Models and other tools' masks against what people drew: scores, tables and pictures."""
