"""``slmcompile drift``: what is no longer as the committed files say it is."""
