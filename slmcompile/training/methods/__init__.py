"""The programs of train methods: opening the base, attaching what is trained, writing, merging."""
