"""Parts of the exported TensorFlow graph: image decoding, crops, network, decoder, search for the person."""
