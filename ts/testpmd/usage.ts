/** `vring testpmd --help`. */

export const USAGE = `Usage: vring testpmd [EAL options] -- [testpmd options]

EAL options:
  -a, --allow ADDRESS[,key=value...]  add the virtio device at a PCI address, as 0000:00:03.0; without any, all that are
                          bound to vfio-pci, uio_pci_generic or no driver (--no-pci: none; -b ADDRESS: not this one)
  --vdev DRIVERn[,key=value...]  add a port; repeat for more. Drivers: net_virtio_user, net_vhost, net_pcap,
                                 net_null, net_ring
  -l LIST                        lcores to use, e.g. 0,2-3; the lowest runs the prompt, the others forward
  --lcores MAP                   the same with the CPUs each may run on, e.g. '0@0,(1-2)@(2,3)'
  -c MASK                        the same as a hexadecimal mask
  --main-lcore N                 the lcore that runs the prompt
  -m MIB                         the most memory that packet buffers may take
  --no-huge                      ordinary pages (default: hugepages where there are some)
  --in-memory                    accepted: it is so anyway
  --file-prefix NAME             name of the folder with the telemetry socket (default rte)
  --no-telemetry                 no telemetry socket for dpdk-telemetry.py
  --huge-dir, --single-file-segments, -n, --log-level, --iova-mode, --socket-mem, --legacy-mem, ...
                                 accepted; a line says why they have no effect here
  -v                             show the version
  -h, --help                     this text

testpmd options:
  -i, --interactive              show a prompt
  --cmdline-file=FILE            run the commands of a file before the prompt comes, showing them
  --cmdline-file-noecho=FILE     the same without showing them
  -a, --auto-start               start forwarding at once, with the prompt
  --tx-first                     send a burst on every transmit queue first (without the prompt)
  --forward-mode=MODE            io, mac, macswap, flowgen, rxonly, txonly, csum, icmpecho, noisy, 5tswap
                                 or recycle_mbufs (default io)
  --script FILE.ts               forward with a script in the place of a mode
  --watch                        load the script again whenever its file has changed
  --nb-cores=N                   lcores that forward (default 1)
  --nb-ports=N                   ports that forward (default all)
  --coremask=MASK                the lcores that forward, hexadecimal
  --portlist=N[,M-K...]          the ports that forward, in the order in which they are paired
  --portmask=MASK                the same as a hexadecimal mask
  --port-topology=NAME           paired, chained or loop (default paired)
  --rxq=N, --txq=N               queues of every port (default 1)
  --rxd=N, --txd=N               descriptors of every ring (default: the driver's)
  --burst=N                      packets in a burst, 1 to 512 (default 32)
  --txpkts=X[,Y...]              bytes of the segments of a txonly packet (default 64)
  --tx-ip=SRC,DST                addresses of txonly's packets (default 198.18.0.1,198.18.0.2)
  --tx-udp=SRC[,DST]             ports of txonly's packets (default 9,9)
  --txonly-multi-flow            txonly sends 256 flows
  --txonly-flows=N               or so many, 1 to 256
  --flowgen-flows=N              flows of flowgen (default 1024)
  --flowgen-clones=N             packets of flowgen like the one before, up to a burst
  --eth-peer=PORT,MAC            where packets sent on a port go: mac, csum, txonly; repeat for more
  --eth-peers-configfile=FILE    the same: an address a line, port 0 first
  --noisy-tx-sw-buffer-size=N    noisy: packets that wait before they are sent
  --noisy-tx-sw-buffer-flushtime=MS  noisy: they are sent when none came for so long
  --noisy-lkup-memory=MIB        noisy: memory that is looked up in, and for each packet
  --noisy-lkup-num-writes=N, --noisy-lkup-num-reads=N, --noisy-lkup-num-reads-writes=N
                                 random writes, reads, reads with a write
  --total-num-mbufs=N            packet buffers (default: by ports and queues)
  --mbuf-size=N                  bytes of a buffer, 128 bytes of headroom included (default 2176)
  --max-pkt-len=N                longest frame, 64 to 65535
  --stats-period=SECONDS         show statistics regularly (without the prompt)
  --latencystats=LCORE           measure how long packets are here: \`show latencystats\`
  --bitrate-stats=LCORE          count bits a second of every port: \`show bitrate\`
  --record-burst-stats           show how many packets bursts have
  --record-core-cycles           show processor cycles for each packet
  --display-xstats=NAME[,...]    counters that \`show port stats\` shows too
  --xstats-sizes                 count packets by size and kind of address in \`show port xstats\`
  --metrics=[ADDRESS:]PORT       serve counters for Prometheus at http://ADDRESS:PORT/metrics (default 127.0.0.1)
  --no-flush-rx                  keep what arrived before forwarding starts
  --no-lsc-interrupt             do not report link changes; check links at start instead
  --disable-link-check           do not check links at start
  --numa, --no-numa              accepted; no effect
`
