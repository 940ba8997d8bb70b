//! vring port
