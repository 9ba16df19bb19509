"""`python -m alignment selftest`: plant known faults in right ports and count how many the tool finds."""
