//! Writes the difference between two versions of an object as one merge patch with uid and
//! resourceVersion preconditions; the types keep main resource and status apart.
