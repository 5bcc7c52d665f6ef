"""Running a model, the same way in torch and in onnxruntime-genai: greedy, scored, timed."""
