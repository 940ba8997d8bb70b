/**
 * vring: a virtio and vhost poll-mode driver for Node.js. What is exported here is the public API, and nothing else is.
 *
 * @module
 */
export { version } from './binding.ts'
export { Burst, PacketFlag, type Segment, type SegmentationKind } from './burst.ts'
export { Capture, type CaptureOptions, type CaptureStats } from './capture.ts'
export {
  type DevargInfo,
  type Devargs,
  type DriverName,
  drivers,
  type NetAfPacketOptions,
  type NetNullOptions,
  type NetPcapOptions,
  type NetRingOptions,
  type NetTapOptions,
  type NetVhostOptions,
  type NetVirtioPciOptions,
  type NetVirtioUserOptions,
  parseDevargs,
  type PortOptions,
} from './devargs.ts'
export { VringError, type VringErrorCode } from './errors.ts'
export type { BurstsOptions } from './iterate.ts'
export { Kni, type KniEvents, type KniOptions } from './kni.ts'
export type { KniHandler } from './kni/follow.ts'
export type { KniRequest } from './kni/request.ts'
export type { KniFlow, KniStats } from './kni/stats.ts'
export {
  type BurstCount,
  type CsumOptions,
  type EngineName,
  type EngineOptions,
  type LatencyStats,
  Lcore,
  type LcoreOptions,
  type LcoreStats,
  type NoiseOptions,
  type Stream,
  type StreamStats,
} from './lcore.ts'
export { Mempool, type MempoolOptions } from './mempool.ts'
export { Metrics, type MetricsOptions } from './metrics.ts'
export * from './packet/index.ts'
export { pciDevices, type PciDevice } from './pci.ts'
export {
  type LinkStatus,
  Port,
  type PortEvents,
  type PortInfo,
  type QueueConfig,
  type WaitOptions,
} from './port.ts'
export { type QueueInfo, type QueueToken, RxQueue, TxQueue } from './queue.ts'
export type { OffloadInfo, Offloads, RssConfig, RssType, RxMode, RxOffload, TxOffload } from './rxmode.ts'
export type { Drops, PortStats, QueueStats } from './stats.ts'
export type { TelemetryValue } from './telemetry/json.ts'
export { Telemetry, type TelemetryHandler, type TelemetryOptions } from './telemetry/server.ts'
export type { BurstFunction, ForwardScript, ScriptContext } from './testpmd/script/api.ts'
export {
  type FrameOptions,
  type ReceivedTraffic,
  type SentTraffic,
  Traffic,
  type TrafficLatency,
  type TrafficOptions,
  type TrafficReport,
  type TrafficSize,
  type TrafficStream,
} from './traffic.ts'
