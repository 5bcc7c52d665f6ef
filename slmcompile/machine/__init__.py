"""The process, the device and the environment that a program runs in."""
