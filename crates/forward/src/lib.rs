//! vring forward
