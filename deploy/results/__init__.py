"""What is made of predictions beside their file: lines on a terminal, annotated pictures, sorted folders, heat maps."""
