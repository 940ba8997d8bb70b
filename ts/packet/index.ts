/** Header views, checksums and addresses. */
export { checksum, foldSum, onesSum, pseudoHeader4, pseudoHeader6, updateChecksum } from './checksum.ts'
export { ArpView, EthernetView, EtherType, VlanView } from './ethernet.ts'
export { formatIpv4, formatIpv6, formatMac, parseIpv4, parseMac } from './format.ts'
export { IpProtocol, Ipv4View, Ipv6View } from './ip.ts'
export { IcmpView, TcpFlag, TcpView, UdpView } from './transport.ts'
export { HeaderView } from './view.ts'
