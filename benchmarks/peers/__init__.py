"""Other fine-tuning tools, installed and run as their users do; no part of slmcompile."""
