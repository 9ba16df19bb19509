"""The only folder that imports PyTorch; its programs run.py and peer_tools.py are processes of their own."""
