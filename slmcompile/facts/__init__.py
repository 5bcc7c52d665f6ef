"""What checks may know: gathered from files, without torch and without running anything."""
