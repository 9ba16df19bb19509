"""`python -m alignment selftest`: put known mistakes into right ports and count how many the tool finds."""
