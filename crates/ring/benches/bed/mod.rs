//! Both halves of a ring on one core, and the memory under them.

use std::hint::black_box;
use std::sync::Arc;

use vring_mem::guest::{Access, GuestMemory, GuestRegion, SharedFile};
use vring_mem::{Pages, Region};
use vring_ring::inflight::{Record, Recorded, record_bytes};
use vring_ring::packed::{self, PackedLayout};
use vring_ring::split;
use vring_ring::{DeviceRing, DriverRing, Piece, RingFeatures, SplitLayout};

const BASE: u64 = 0x1_0000_0000;

/// A kind of ring: how to make its two halves.
pub trait Kind {
    type Driver: DriverRing;
    type Device: DeviceRing;
    #[allow(dead_code, reason = "not every bench names its beds")]
    const NAME: &'static str;
    const IN_ORDER: bool;

    fn bytes(size: u16) -> usize;
    fn halves(
        region: &Arc<Region>,
        memory: &GuestMemory,
        size: u16,
        features: RingFeatures,
    ) -> (Self::Driver, Self::Device);
}

/// The same with an in-flight record.
pub struct Kept<K>(std::marker::PhantomData<K>);

macro_rules! kept {
    ($kind:ident, $half:ty, $packed:literal) => {
        impl<const IN_ORDER: bool> Kind for Kept<$kind<IN_ORDER>> {
            type Driver = <$kind<IN_ORDER> as Kind>::Driver;
            type Device = Recorded<$half>;
            const NAME: &'static str = concat!(stringify!($kind), " with a record");
            const IN_ORDER: bool = IN_ORDER;

            fn bytes(size: u16) -> usize {
                $kind::<IN_ORDER>::bytes(size)
            }

            fn halves(
                region: &Arc<Region>,
                memory: &GuestMemory,
                size: u16,
                features: RingFeatures,
            ) -> (Self::Driver, Self::Device) {
                let (driver, device) = $kind::<IN_ORDER>::halves(region, memory, size, features);
                let bytes = record_bytes($packed, size);
                let region = Region::create(
                    "record",
                    usize::try_from(bytes).expect("small"),
                    Pages::Base,
                );
                let fd = region.expect("memory").fd().try_clone_to_owned();
                let file = SharedFile::map(fd.expect("a descriptor"), 0, bytes).expect("a map");
                let record = Record::new(&Arc::new(file), 0, $packed, size).expect("inside");
                (driver, Recorded::new(device, record))
            }
        }
    };
}

kept!(Split, split::Device<IN_ORDER>, false);
kept!(Packed, packed::Device<IN_ORDER>, true);

pub struct Split<const IN_ORDER: bool>;
pub struct Packed<const IN_ORDER: bool>;

impl<const IN_ORDER: bool> Kind for Split<IN_ORDER> {
    type Driver = split::Driver<IN_ORDER>;
    type Device = split::Device<IN_ORDER>;
    const NAME: &'static str = if IN_ORDER { "split in order" } else { "split" };
    const IN_ORDER: bool = IN_ORDER;

    fn bytes(size: u16) -> usize {
        SplitLayout::new(size, false).total
    }

    fn halves(
        region: &Arc<Region>,
        memory: &GuestMemory,
        size: u16,
        features: RingFeatures,
    ) -> (Self::Driver, Self::Device) {
        let layout = SplitLayout::new(size, false);
        let driver = split::Driver::new(region, 0, BASE, size, &layout, features);
        let at = |part: usize| {
            memory
                .translate(BASE + part as u64, 1, Access::WRITE)
                .expect("inside")
        };
        let (desc, avail, used) = (at(layout.desc), at(layout.avail), at(layout.used));
        // SAFETY: the layout lies inside the region, whose map the bed keeps as long as the device half.
        let device = unsafe { split::Device::new(desc, avail, used, size, features) };
        (driver, device)
    }
}

impl<const IN_ORDER: bool> Kind for Packed<IN_ORDER> {
    type Driver = packed::Driver<IN_ORDER>;
    type Device = packed::Device<IN_ORDER>;
    const NAME: &'static str = if IN_ORDER {
        "packed in order"
    } else {
        "packed"
    };
    const IN_ORDER: bool = IN_ORDER;

    fn bytes(size: u16) -> usize {
        PackedLayout::new(size, false).total
    }

    fn halves(
        region: &Arc<Region>,
        memory: &GuestMemory,
        size: u16,
        features: RingFeatures,
    ) -> (Self::Driver, Self::Device) {
        let l = PackedLayout::new(size, false);
        let driver = packed::Driver::new(region, 0, BASE, size, &l, features);
        let at = |part: usize| {
            memory
                .translate(BASE + part as u64, 1, Access::WRITE)
                .expect("inside")
        };
        let (desc, ours, theirs) = (at(l.desc), at(l.driver_event), at(l.device_event));
        // SAFETY: as for split rings.
        let device =
            unsafe { packed::Device::new(desc, ours, theirs, size, 0x8000_8000, features) };
        (driver, device.expect("a base of a new ring"))
    }
}

pub struct Bed<K: Kind> {
    driver: K::Driver,
    device: K::Device,
    /// The device writes the buffers, as on a receive queue, or reads them.
    write: bool,
    tokens: Vec<u32>,
    lens: Vec<u32>,
    _memory: Arc<GuestMemory>,
}

impl<K: Kind> Bed<K> {
    pub fn new(size: u16, event_idx: bool, write: bool) -> Self {
        let region = Region::create("ring-bench", K::bytes(size), Pages::Base).expect("memory");
        let features = RingFeatures {
            event_idx,
            indirect: false,
            in_order: K::IN_ORDER,
        };
        let fd = region.fd().try_clone_to_owned().expect("a descriptor");
        let guest = GuestRegion::map(BASE, BASE, region.len() as u64, 0, fd).expect("a map");
        let memory = Arc::new(GuestMemory::new(vec![Arc::new(guest)]).expect("one region"));
        let (driver, device) = K::halves(&region, &memory, size, features);
        Self {
            driver,
            device,
            write,
            tokens: (0..256).collect(),
            lens: vec![0; 256],
            _memory: memory,
        }
    }

    #[inline(never)]
    pub fn push(&mut self, burst: usize) {
        let piece = |nth: usize| Piece {
            addr: BASE + nth as u64,
            len: 2060,
        };
        // As the callers in the data path do, which know the direction.
        if self.write {
            self.driver.push_many(&self.tokens[..burst], true, piece);
        } else {
            self.driver.push_many(&self.tokens[..burst], false, piece);
        }
        self.driver.publish();
        black_box(self.driver.needs_kick());
    }

    #[inline(never)]
    pub fn serve(&mut self, burst: usize) {
        let ready = self
            .device
            .ready(burst)
            .expect("an honest driver")
            .min(burst);
        let mut ids = [0u16; 256];
        let looked = self.device.peek_many(ready, |nth, head| {
            ids[nth] = head.id;
            black_box(head.desc.len) > 0
        });
        let count = looked.expect("an honest driver");
        if self.write {
            self.device.complete_many(count, |nth| (ids[nth], 72));
        } else {
            self.device.complete_read_many(count, |nth| ids[nth]);
        }
        self.device.publish();
        black_box(self.device.needs_call());
    }

    #[inline(never)]
    pub fn pop(&mut self, burst: usize) {
        let ready = self.driver.used_ready(burst).expect("an honest device");
        let count = ready.min(burst);
        let (tokens, lens) = (&mut self.tokens[..count], &mut self.lens[..count]);
        assert_eq!(self.driver.pop_many(tokens, lens), Ok(burst));
    }
}
