"""From base model and trained weights to a folder that onnxruntime-genai opens as it stands."""
