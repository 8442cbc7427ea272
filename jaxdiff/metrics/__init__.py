"""How good, how diverse, how private: the measures of images, sets of images and detections, in numpy and scipy."""
