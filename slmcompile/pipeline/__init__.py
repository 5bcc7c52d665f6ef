"""Plan → DVC: generated files, what DVC remembers, and driving ``dvc repro``."""
