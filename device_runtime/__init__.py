"""What a device needs: bundle and update formats, runtimes, verification, prediction, benchmarks, MAC counting.

Needs click, numpy, rich, safetensors, Pillow and one installed runtime; imports no other stage and no torch.
"""
