//! N-API
