"""Image files from strangers: JPEG, PNG and WebP, walked without decoding.

A decoder that reads a hostile file does as it is told: it allocates the pixels that a header
promises, inflates text chunks, follows millions of one-byte segments. So a file is walked here
first, in bounded steps: the size in pixels is checked before anything else, and the decoder gets a
copy that holds the picture data alone, without metadata, colour profile or further frames. EXIF is
read for the orientation only, and by a reader of our own.
"""
