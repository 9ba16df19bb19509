"""Random changes to training images; each first draws its parameters and then applies them."""
