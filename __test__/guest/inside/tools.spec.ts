// Runs in a guest, in this order: the tools that look at a machine and change it.
import { declareDevbind } from './tools/devbind.ts'
import { declareDoctor } from './tools/doctor.ts'
import { declareHugepages } from './tools/hugepages.ts'

declareDevbind()
declareDoctor()
declareHugepages()
