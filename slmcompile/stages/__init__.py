"""Stage programs: each turns a spec and input folders into one output folder."""
