"""Time exported TFLite files on this machine, by delegate and number of threads."""
