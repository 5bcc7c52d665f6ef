"""From base model and adapter to a folder that onnxruntime-genai opens as it stands."""
