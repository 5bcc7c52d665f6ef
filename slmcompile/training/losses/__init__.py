"""The programs of losses, and what each is given of a batch."""
