//! Frames and messages between client and worker, free of I/O.
