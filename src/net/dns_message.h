// SPDX-License-Identifier: Apache-2.0
// DNS messages as values: queries read, answers written. c-ares does the wire format and is behind this header and
// nowhere else; the few bytes of the fixed header that are looked at here serve to answer what c-ares cannot read.
// Everything read is hostile. Nothing here waits or keeps state.
//
// Names are in presentation form without the last dot ("" is the root), in the case of the sender; a byte that is no
// plain character is escaped (\. or \046), so that label_list() is the way to take a name apart.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"
#include "os/ipv4.h"

namespace skerry::net {

enum class DnsType : std::uint16_t {
  A = 1,
  Ns = 2,
  Cname = 5,
  Soa = 6,
  Ptr = 12,
  Hinfo = 13,
  Txt = 16,
  Aaaa = 28,
  Srv = 33,
  Opt = 41,
  Ixfr = 251,
  Axfr = 252,
  Any = 255
};  // others come as their number
enum class DnsCode : std::uint8_t {
  NoError = 0,
  FormErr = 1,
  ServFail = 2,
  NxDomain = 3,
  NotImp = 4,
  Refused = 5,
  BadVersion = 16
};
inline constexpr std::uint16_t kDnsClassIn = 1, kDnsClassAny = 255;
inline constexpr std::size_t kDnsHeaderBytes = 12, kDnsUdpBytes = 512, kDnsTcpBytesMax = 65535;

struct DnsQuestion {
  std::string name;
  DnsType type = DnsType::A;
  std::uint16_t klass = kDnsClassIn;
  friend bool operator==(const DnsQuestion&, const DnsQuestion&) = default;
};

struct DnsQuery {
  std::uint16_t id = 0;
  bool recursion_desired = false, checking_disabled = false;
  DnsQuestion question{};
  std::string question_bytes{};          // as it came: c-ares reads names that it does not write
  bool edns = false, dnssec_ok = false;  // the OPT record and its DO bit
  std::uint16_t udp_bytes_max = 512;     // what the sender takes in one datagram; at least 512
};

struct DnsTarget {  // of CNAME, NS, PTR
  std::string name;
  friend bool operator==(const DnsTarget&, const DnsTarget&) = default;
};
struct DnsText {
  std::string text;  // up to 255 bytes
  friend bool operator==(const DnsText&, const DnsText&) = default;
};
struct DnsSrv {
  std::uint16_t priority = 0, weight = 0, port = 0;
  std::string target;
  friend bool operator==(const DnsSrv&, const DnsSrv&) = default;
};
struct DnsSoa {
  std::string server, mailbox;
  std::uint32_t serial = 0, refresh = 0, retry = 0, expire = 0, minimum = 0;
  friend bool operator==(const DnsSoa&, const DnsSoa&) = default;
};
struct DnsHinfo {
  std::string cpu, system;
  friend bool operator==(const DnsHinfo&, const DnsHinfo&) = default;
};
using Ipv6Bytes = std::array<std::uint8_t, 16>;

struct DnsRecord {
  std::string name;
  DnsType type = DnsType::A;
  std::uint32_t ttl = 0;
  std::variant<os::Ipv4, Ipv6Bytes, DnsTarget, DnsText, DnsSrv, DnsSoa, DnsHinfo> data{};
  friend bool operator==(const DnsRecord&, const DnsRecord&) = default;
};

struct DnsAnswer {
  DnsCode code = DnsCode::NoError;
  bool authoritative = false, truncated = false;
  std::vector<DnsRecord> answers{}, authority{}, additional{};
  friend bool operator==(const DnsAnswer&, const DnsAnswer&) = default;
};

// The query in `bytes`, or the bytes with which to answer one that cannot be served: FORMERR, NOTIMP, BADVERS. They are
// empty where silence is the answer: less than a header, or an answer (two servers must not talk to each other for
// ever).
std::expected<DnsQuery, std::string> read_query(std::string_view bytes);

// An answer to `query` of at most `bytes_max` bytes. What does not fit: first the additional records go, then answers,
// and then the answer says that it is truncated. Never empty. A question whose name c-ares does not write (bytes that
// no host name has) is answered with the code alone.
std::string write_answer(const DnsQuery& query, const DnsAnswer& answer, std::size_t bytes_max);

// A recursive query of our own, with room for 1232 bytes. Invalid: no such name.
Result<std::string> write_query(std::uint16_t id, const DnsQuestion& question);

// Whether `reply` is a well-formed answer with `id` to `question` (whose case does not matter).
bool is_reply(std::string_view reply, std::uint16_t id, const DnsQuestion& question);
// What of a reply a CNAME's follower needs: code, truncation, A, AAAA and CNAME records of its answer section.
Result<DnsAnswer> read_reply(std::string_view bytes);
DnsCode reply_code(std::string_view reply);  // the four bits of the header; of a reply that is_reply() knows
bool reply_truncated(std::string_view reply);
void set_id(std::string& message, std::uint16_t id);
std::uint16_t id_of(std::string_view message);

// The labels of a name, lower case, from the left. "a\.b.c" has two.
std::vector<std::string> label_list(std::string_view name);

}  // namespace skerry::net
