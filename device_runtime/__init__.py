"""What a device needs: bundle and update formats, engines, verification, prediction, benchmarks, MAC counting.

Needs click, numpy, rich, safetensors, Pillow and one installed engine; imports no other stage and no torch.
"""
