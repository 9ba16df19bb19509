"""Constants of the data that several modules share: ImageNet's statistics, interpolations, and image backends."""

# Mean and standard deviation of the channels R, G, B of ImageNet's training images, for values from 0 to 1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")  # Pillow's names, in lower case

# Image backend: the modules that it needs, and the package that holds each. The fastest backend is first, as
# --image_backend auto tries them. "turbo" decodes by libjpeg-turbo, "cv2" by Pillow; both resize by OpenCV.
BACKEND_PACKAGES = {
    "turbo": {"simplejpeg": "simplejpeg", "cv2": "opencv-python-headless"},
    "cv2": {"cv2": "opencv-python-headless"},
    "pil": {},
}
