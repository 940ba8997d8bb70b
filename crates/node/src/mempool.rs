//! Mempools.

use std::cell::RefCell;
use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::Unknown;
use napi_derive::napi;
use vring_mem::mempool::{HEADROOM, SegMeta};
use vring_mem::{Mempool, MempoolConfig, Pages};

use crate::burst::{self, Alloc, NewBurst};
use crate::error::{Result, coded, failure};
use crate::{hot, isolate, shown};

/// What to make a mempool of. What is left out has the value of the Rust default.
#[napi(object)]
#[derive(Debug)]
pub struct MempoolRequest {
    /// Shown in errors.
    pub name: Option<String>,
    /// Buffers.
    pub count: Option<f64>,
    /// Bytes of a buffer with its headroom.
    pub buffer_size: Option<f64>,
    /// Free buffers that each thread keeps.
    pub cache_size: Option<f64>,
    /// `auto`, `4K`, `2M` or `1G`.
    pub pages: Option<String>,
}

/// What a mempool is; nothing of it ever changes.
#[napi(object)]
#[derive(Debug)]
pub struct MempoolFacts {
    /// Unlike any other's in this process.
    pub id: f64,
    /// As given.
    pub name: String,
    /// Buffers.
    pub count: u32,
    /// Bytes of a buffer with its headroom.
    pub buffer_size: u32,
    /// Bytes from a buffer's start to the next one's.
    pub stride: u32,
    /// Bytes before the data of a fresh packet.
    pub headroom: u32,
    /// Bytes of a page of its memory.
    pub page_size: f64,
}

/// A mempool, for one isolate. Lets go of it when it is closed, not when it is collected.
#[napi]
pub struct MempoolHandle {
    pool: RefCell<Option<Arc<Mempool>>>,
}

/// A whole number within what `usize` can be, or an error that names the option.
fn whole(what: &str, value: Option<f64>, default: usize) -> Result<usize> {
    match value {
        None => Ok(default),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked right before"
        )]
        Some(n) if n.fract() == 0.0 && (0.0..9e15).contains(&n) => Ok(n as usize),
        Some(n) => Err(failure(
            "ERR_VRING_OUT_OF_RANGE",
            format!("expected {what} to be a whole number, got {n}"),
        )),
    }
}

fn pages(text: Option<&str>) -> Result<Pages> {
    match text {
        None | Some("auto") => Ok(Pages::Auto),
        Some("4K") => Ok(Pages::Base),
        Some("2M") => Ok(Pages::Huge2M),
        Some("1G") => Ok(Pages::Huge1G),
        Some(got) => Err(failure(
            "ERR_VRING_OUT_OF_RANGE",
            format!("expected pages to be auto, 4K, 2M or 1G, got '{got}'"),
        )),
    }
}

/// Makes a mempool.
#[napi(catch_unwind)]
pub fn create_mempool(request: MempoolRequest) -> Result<MempoolHandle> {
    let default = MempoolConfig::default();
    let config = MempoolConfig {
        name: request.name.unwrap_or(default.name),
        count: whole("count", request.count, default.count)?,
        buffer_size: whole("bufferSize", request.buffer_size, default.buffer_size)?,
        cache_size: whole("cacheSize", request.cache_size, default.cache_size)?,
        pages: pages(request.pages.as_deref())?,
    };
    Ok(MempoolHandle::of(Mempool::new(&config).map_err(coded)?))
}

impl MempoolHandle {
    /// A handle of this isolate on a pool.
    pub fn of(pool: Arc<Mempool>) -> Self {
        Self {
            pool: RefCell::new(Some(pool)),
        }
    }

    /// The pool, unless the handle was closed.
    pub fn pool(&self) -> Result<Arc<Mempool>> {
        self.pool.borrow().clone().ok_or_else(|| {
            failure(
                "ERR_VRING_CLOSED",
                "expected an open mempool, but it was closed",
            )
        })
    }
}

#[napi]
impl MempoolHandle {
    /// What it is.
    #[napi(catch_unwind)]
    pub fn facts(&self) -> Result<MempoolFacts> {
        let pool = self.pool()?;
        Ok(MempoolFacts {
            id: pool.id() as f64,
            name: pool.name().to_owned(),
            count: pool.count(),
            buffer_size: pool.buffer_size(),
            stride: pool.stride(),
            headroom: HEADROOM,
            page_size: pool.region().pages().size() as f64,
        })
    }

    /// Free buffers, those in the caches of threads included.
    #[napi(catch_unwind)]
    pub fn free_count(&self) -> Result<f64> {
        Ok(self.pool()?.free_count() as f64)
    }

    /// All its memory. The mapping stays as long as this `ArrayBuffer` does.
    #[napi(catch_unwind, ts_return_type = "ArrayBuffer")]
    pub fn memory<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        let pool = self.pool()?;
        let region = pool.region();
        // SAFETY: the region is mapped as long as its Arc is held.
        unsafe { shown::show(env, region.base(), region.len(), region.clone()) }
    }

    /// Where each buffer's packet goes on: two 32-bit words a buffer, the next segment's address and this segment's length.
    #[napi(catch_unwind, ts_return_type = "ArrayBuffer")]
    pub fn segments<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        let pool = self.pool()?;
        let meta = pool.meta();
        // SAFETY: the words are atomics, which may be written through a shared reference; they live as long as the pool.
        unsafe {
            shown::show(
                env,
                meta.as_ptr().cast_mut().cast(),
                size_of_val::<[SegMeta]>(meta),
                pool.clone(),
            )
        }
    }

    /// A burst of this pool for this isolate.
    #[napi(catch_unwind)]
    pub fn create_burst<'env>(&self, env: &'env Env, capacity: u32) -> Result<NewBurst<'env>> {
        burst::create(env, &self.pool()?, capacity)
    }

    /// The function that appends fresh packets to a burst: `(burst, wanted) => got`.
    #[napi(
        catch_unwind,
        ts_return_type = "(burst: number, wanted: number) => number"
    )]
    pub fn alloc_function<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        hot::bind(
            env,
            Alloc::new(&*self.pool()?, isolate::current(env)?.owner),
        )
    }

    /// Lets go of the pool.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.pool.borrow_mut().take();
    }
}
