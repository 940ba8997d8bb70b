// The chapter's figure of KNI, in a guest, where the kernel has vhost-net: see inside/kni.spec.ts.
import test from 'ava'
import { declareInside } from '../guest/rig/index.ts'

await declareInside(
  test,
  new URL('../guest/inside/kni.spec.ts', import.meta.url).pathname,
  'guest',
  'KNI in a guest',
  { memory: 2048, specTimeout: 480_000 },
)
