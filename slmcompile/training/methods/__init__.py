"""The programs of train methods: open the base, attach what is trained, write it, apply it."""
