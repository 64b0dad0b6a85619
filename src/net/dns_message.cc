// SPDX-License-Identifier: Apache-2.0
#include "net/dns_message.h"

#include <ares.h>
#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#include "base/check.h"

namespace skerry::net {
namespace {

constexpr std::uint8_t kQr = 0x80, kOpcode = 0x78, kTc = 0x02, kRd = 0x01;  // of the third byte
constexpr std::uint8_t kRcode = 0x0f;                                       // of the fourth
constexpr std::uint16_t kDnssecOk = 0x8000;
constexpr std::uint16_t kUdpBytesOffered = 1232;  // fits every path's packets (the DNS flag day of 2020)

struct FreeRecord {
  void operator()(ares_dns_record_t* record) const { ares_dns_record_destroy(record); }
};
using Record = std::unique_ptr<ares_dns_record_t, FreeRecord>;

const unsigned char* data_of(std::string_view bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }
std::uint8_t byte_at(std::string_view bytes, std::size_t at) { return static_cast<std::uint8_t>(bytes[at]); }

// Every resource record is taken as bytes, but for OPT where `options` asks for it: only its shape has to be right.
Record parse(std::string_view bytes, unsigned flags) {
  ares_dns_record_t* record = nullptr;
  if (ares_dns_parse(data_of(bytes), bytes.size(), flags, &record) != ARES_SUCCESS) return nullptr;
  return Record(record);
}

std::optional<DnsQuestion> question_of(const ares_dns_record_t* record) {
  const char* name = nullptr;
  ares_dns_rec_type_t type{};
  ares_dns_class_t klass{};
  if (ares_dns_record_query_cnt(record) != 1 ||
      ares_dns_record_query_get(record, 0, &name, &type, &klass) != ARES_SUCCESS || name == nullptr)
    return std::nullopt;
  return DnsQuestion{name, static_cast<DnsType>(type), static_cast<std::uint16_t>(klass)};
}

// The first question of a message: labels up to the root, type and class. Nothing, if a label points elsewhere: c-ares
// follows it into the header, but there is no name before the first that it could mean.
std::string question_bytes(std::string_view message) {
  constexpr std::size_t kTypeAndClass = 4, kLabelBytesMax = 63;
  std::size_t at = kDnsHeaderBytes;
  for (; at < message.size() && byte_at(message, at) != 0; at += 1 + std::size_t{byte_at(message, at)})
    if (byte_at(message, at) > kLabelBytesMax) return {};
  const std::size_t end = at + 1 + kTypeAndClass;
  return end <= message.size() ? std::string(message.substr(kDnsHeaderBytes, end - kDnsHeaderBytes)) : std::string();
}

// A header alone: all that can be said to what cannot be read.
std::string header_reply(std::string_view query, DnsCode code) {
  std::string out(kDnsHeaderBytes, '\0');
  out[0] = query[0];
  out[1] = query[1];
  out[2] = static_cast<char>(kQr | (byte_at(query, 2) & (kOpcode | kRd)));
  out[3] = static_cast<char>(static_cast<std::uint8_t>(code) & kRcode);
  return out;
}

bool set_text(ares_dns_rr_t* rr, ares_dns_rr_key_t key, const std::string& text) {
  return ares_dns_rr_set_str(rr, key, text.c_str()) == ARES_SUCCESS;
}

struct SetData {
  ares_dns_rr_t* rr;
  DnsType type;
  bool operator()(const os::Ipv4& address) const {
    in_addr raw{};
    raw.s_addr = htonl(address.value);
    return ares_dns_rr_set_addr(rr, ARES_RR_A_ADDR, &raw) == ARES_SUCCESS;
  }
  bool operator()(const Ipv6Bytes& address) const {
    ares_in6_addr raw{};
    std::memcpy(&raw, address.data(), address.size());
    return ares_dns_rr_set_addr6(rr, ARES_RR_AAAA_ADDR, &raw) == ARES_SUCCESS;
  }
  bool operator()(const DnsTarget& target) const {
    const auto key = type == DnsType::Cname ? ARES_RR_CNAME_CNAME
                     : type == DnsType::Ns  ? ARES_RR_NS_NSDNAME
                                            : ARES_RR_PTR_DNAME;
    return set_text(rr, key, target.name);
  }
  bool operator()(const DnsText& text) const {
    return ares_dns_rr_add_abin(rr, ARES_RR_TXT_DATA, data_of(text.text), text.text.size()) == ARES_SUCCESS;
  }
  bool operator()(const DnsSrv& srv) const {
    return ares_dns_rr_set_u16(rr, ARES_RR_SRV_PRIORITY, srv.priority) == ARES_SUCCESS &&
           ares_dns_rr_set_u16(rr, ARES_RR_SRV_WEIGHT, srv.weight) == ARES_SUCCESS &&
           ares_dns_rr_set_u16(rr, ARES_RR_SRV_PORT, srv.port) == ARES_SUCCESS &&
           set_text(rr, ARES_RR_SRV_TARGET, srv.target);
  }
  bool operator()(const DnsSoa& soa) const {
    const auto number = [&](ares_dns_rr_key_t key, std::uint32_t value) {
      return ares_dns_rr_set_u32(rr, key, value) == ARES_SUCCESS;
    };
    return set_text(rr, ARES_RR_SOA_MNAME, soa.server) && set_text(rr, ARES_RR_SOA_RNAME, soa.mailbox) &&
           number(ARES_RR_SOA_SERIAL, soa.serial) && number(ARES_RR_SOA_REFRESH, soa.refresh) &&
           number(ARES_RR_SOA_RETRY, soa.retry) && number(ARES_RR_SOA_EXPIRE, soa.expire) &&
           number(ARES_RR_SOA_MINIMUM, soa.minimum);
  }
  bool operator()(const DnsHinfo& info) const {
    return set_text(rr, ARES_RR_HINFO_CPU, info.cpu) && set_text(rr, ARES_RR_HINFO_OS, info.system);
  }
};

bool add(ares_dns_record_t* message, ares_dns_section_t section, const DnsRecord& record) {
  ares_dns_rr_t* rr = nullptr;
  return ares_dns_record_rr_add(&rr, message, section, record.name.c_str(),
                                static_cast<ares_dns_rec_type_t>(record.type), ARES_CLASS_IN,
                                record.ttl) == ARES_SUCCESS &&
         std::visit(SetData{rr, record.type}, record.data);
}

bool add_options(ares_dns_record_t* message, std::uint16_t flags) {
  ares_dns_rr_t* rr = nullptr;
  return ares_dns_record_rr_add(&rr, message, ARES_SECTION_ADDITIONAL, "", ARES_REC_TYPE_OPT, ARES_CLASS_IN, 0) ==
             ARES_SUCCESS &&
         ares_dns_rr_set_u16(rr, ARES_RR_OPT_UDP_SIZE, kUdpBytesOffered) == ARES_SUCCESS &&
         ares_dns_rr_set_u8(rr, ARES_RR_OPT_VERSION, 0) == ARES_SUCCESS &&
         ares_dns_rr_set_u16(rr, ARES_RR_OPT_FLAGS, flags) == ARES_SUCCESS;
}

std::optional<std::string> bytes_of(const ares_dns_record_t* message) {
  unsigned char* bytes = nullptr;
  std::size_t size = 0;
  if (ares_dns_write(message, &bytes, &size) != ARES_SUCCESS) return std::nullopt;
  std::string out(reinterpret_cast<const char*>(bytes), size);
  ares_free_string(bytes);
  return out;
}

// The message with so many of the answers; nothing if c-ares cannot write it (a name that is too long).
std::optional<std::string> write_part(const DnsQuery& query, const DnsAnswer& answer, std::size_t answers, bool extras,
                                      bool truncated) {
  const auto flag = [](bool on, ares_dns_flags_t which) { return static_cast<unsigned>(on ? which : 0); };
  const unsigned flags = ARES_FLAG_QR | ARES_FLAG_RA | flag(query.recursion_desired, ARES_FLAG_RD) |
                         flag(query.checking_disabled, ARES_FLAG_CD) | flag(answer.authoritative, ARES_FLAG_AA) |
                         flag(truncated, ARES_FLAG_TC);
  ares_dns_record_t* made = nullptr;
  if (ares_dns_record_create(&made, query.id, static_cast<unsigned short>(flags), ARES_OPCODE_QUERY,
                             static_cast<ares_dns_rcode_t>(answer.code)) != ARES_SUCCESS)
    return std::nullopt;
  const Record message(made);
  const DnsQuestion& q = query.question;
  if (ares_dns_record_query_add(message.get(), q.name.c_str(), static_cast<ares_dns_rec_type_t>(q.type),
                                static_cast<ares_dns_class_t>(q.klass)) != ARES_SUCCESS)
    return std::nullopt;
  for (std::size_t i = 0; i < answers; ++i)
    if (!add(message.get(), ARES_SECTION_ANSWER, answer.answers[i])) return std::nullopt;
  if (!truncated)
    for (const auto& record : answer.authority)
      if (!add(message.get(), ARES_SECTION_AUTHORITY, record)) return std::nullopt;
  if (extras)
    for (const auto& record : answer.additional)
      if (!add(message.get(), ARES_SECTION_ADDITIONAL, record)) return std::nullopt;
  if (query.edns && !add_options(message.get(), query.dnssec_ok ? kDnssecOk : 0)) return std::nullopt;
  return bytes_of(message.get());
}

constexpr unsigned kAllRaw = ARES_DNS_PARSE_AN_BASE_RAW | ARES_DNS_PARSE_NS_BASE_RAW | ARES_DNS_PARSE_AR_BASE_RAW |
                             ARES_DNS_PARSE_AN_EXT_RAW | ARES_DNS_PARSE_NS_EXT_RAW | ARES_DNS_PARSE_AR_EXT_RAW;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

std::expected<DnsQuery, std::string> read_query(std::string_view bytes) {
  const auto refuse = [&](DnsCode code) { return std::unexpected(header_reply(bytes, code)); };
  if (bytes.size() < kDnsHeaderBytes || (byte_at(bytes, 2) & kQr) != 0) return std::unexpected(std::string());
  if ((byte_at(bytes, 2) & kOpcode) != 0) return refuse(DnsCode::NotImp);
  const Record record = parse(bytes, kAllRaw & ~static_cast<unsigned>(ARES_DNS_PARSE_AR_EXT_RAW));
  auto question = record ? question_of(record.get()) : std::nullopt;
  std::string as_it_came = question_bytes(bytes);
  if (!question || as_it_came.empty()) return refuse(DnsCode::FormErr);
  const unsigned flags = ares_dns_record_get_flags(record.get());
  DnsQuery out{.id = ares_dns_record_get_id(record.get()),
               .recursion_desired = (flags & ARES_FLAG_RD) != 0,
               .checking_disabled = (flags & ARES_FLAG_CD) != 0,
               .question = std::move(*question),
               .question_bytes = std::move(as_it_came)};
  bool version_known = true;
  for (std::size_t i = 0; i < ares_dns_record_rr_cnt(record.get(), ARES_SECTION_ADDITIONAL); ++i) {
    const auto* rr = ares_dns_record_rr_get_const(record.get(), ARES_SECTION_ADDITIONAL, i);
    if (ares_dns_rr_get_type(rr) != ARES_REC_TYPE_OPT) continue;
    if (out.edns) return refuse(DnsCode::FormErr);  // two of them: RFC 6891, 6.1.1
    out.edns = true;
    out.udp_bytes_max = std::max<std::uint16_t>(ares_dns_rr_get_u16(rr, ARES_RR_OPT_UDP_SIZE), kDnsUdpBytes);
    out.dnssec_ok = (ares_dns_rr_get_u16(rr, ARES_RR_OPT_FLAGS) & kDnssecOk) != 0;
    version_known = ares_dns_rr_get_u8(rr, ARES_RR_OPT_VERSION) == 0;
  }
  if (!version_known) return std::unexpected(write_answer(out, {.code = DnsCode::BadVersion}, kDnsUdpBytes));
  return out;
}

std::string write_answer(const DnsQuery& query, const DnsAnswer& answer, std::size_t bytes_max) {
  const std::size_t all = answer.answers.size();
  if (!answer.truncated) {
    for (const bool extras : {true, false}) {
      if (extras && answer.additional.empty()) continue;
      if (auto whole = write_part(query, answer, all, extras, false); whole && whole->size() <= bytes_max)
        return std::move(*whole);
    }
  }
  // The most answers that fit.
  std::optional<std::string> best;
  std::size_t fits = 0, too_many = all + 1;
  while (fits + 1 < too_many) {
    const std::size_t some = (fits + too_many) / 2;
    auto part = write_part(query, answer, some, false, true);
    if (part && part->size() <= bytes_max) {
      fits = some;
      best = std::move(part);
    } else {
      too_many = some;
    }
  }
  if (!best) best = write_part(query, {.code = answer.code, .authoritative = answer.authoritative}, 0, false, true);
  if (best) return std::move(*best);
  std::string head(kDnsHeaderBytes, '\0');
  set_id(head, query.id);
  head[2] = static_cast<char>(query.recursion_desired ? kRd : 0);
  std::string out = header_reply(head, all == 0 ? answer.code : DnsCode::ServFail);
  if (!query.question_bytes.empty() && out.size() + query.question_bytes.size() <= bytes_max) {
    out[5] = 1;  // questions
    out += query.question_bytes;
  }
  return out;
}

Result<std::string> write_query(std::uint16_t id, const DnsQuestion& question) {
  ares_dns_record_t* made = nullptr;
  std::optional<std::string> bytes;
  if (ares_dns_record_create(&made, id, ARES_FLAG_RD, ARES_OPCODE_QUERY, ARES_RCODE_NOERROR) == ARES_SUCCESS) {
    const Record message(made);
    if (ares_dns_record_query_add(made, question.name.c_str(), static_cast<ares_dns_rec_type_t>(question.type),
                                  static_cast<ares_dns_class_t>(question.klass)) == ARES_SUCCESS &&
        add_options(made, 0))
      bytes = bytes_of(made);
  }
  if (!bytes) return Fail({Errc::Invalid, "\"" + question.name + "\" cannot be asked for: it is no name"});
  return std::move(*bytes);
}

bool is_reply(std::string_view reply, std::uint16_t id, const DnsQuestion& question) {
  if (reply.size() < kDnsHeaderBytes || id_of(reply) != id || (byte_at(reply, 2) & kQr) == 0) return false;
  const Record record = parse(reply, kAllRaw);
  const auto asked = record ? question_of(record.get()) : std::nullopt;
  return asked && asked->type == question.type && asked->klass == question.klass &&
         std::ranges::equal(asked->name, question.name, {}, lower, lower);
}

Result<DnsAnswer> read_reply(std::string_view bytes) {
  const Record record = parse(bytes, ARES_DNS_PARSE_NS_BASE_RAW | ARES_DNS_PARSE_AR_BASE_RAW |
                                         ARES_DNS_PARSE_NS_EXT_RAW | ARES_DNS_PARSE_AR_EXT_RAW);
  if (!record) return Fail({Errc::Corrupt, "an upstream name server sent what is no DNS message"});
  DnsAnswer out{.code = reply_code(bytes), .truncated = reply_truncated(bytes)};
  for (std::size_t i = 0; i < ares_dns_record_rr_cnt(record.get(), ARES_SECTION_ANSWER); ++i) {
    const auto* rr = ares_dns_record_rr_get_const(record.get(), ARES_SECTION_ANSWER, i);
    if (ares_dns_rr_get_class(rr) != ARES_CLASS_IN) continue;
    DnsRecord one{.name = ares_dns_rr_get_name(rr), .ttl = ares_dns_rr_get_ttl(rr), .data = {}};
    const auto type = ares_dns_rr_get_type(rr);
    if (type == ARES_REC_TYPE_A) {
      one.type = DnsType::A;
      one.data = os::Ipv4{ntohl(ares_dns_rr_get_addr(rr, ARES_RR_A_ADDR)->s_addr)};
    } else if (type == ARES_REC_TYPE_AAAA) {
      one.type = DnsType::Aaaa;
      Ipv6Bytes address{};
      std::memcpy(address.data(), ares_dns_rr_get_addr6(rr, ARES_RR_AAAA_ADDR), address.size());
      one.data = address;
    } else if (type == ARES_REC_TYPE_CNAME) {
      one.type = DnsType::Cname;
      one.data = DnsTarget{ares_dns_rr_get_str(rr, ARES_RR_CNAME_CNAME)};
    } else {
      continue;
    }
    out.answers.push_back(std::move(one));
  }
  return out;
}

DnsCode reply_code(std::string_view reply) {
  CHECK(reply.size() >= kDnsHeaderBytes);
  return static_cast<DnsCode>(byte_at(reply, 3) & kRcode);
}
bool reply_truncated(std::string_view reply) {
  CHECK(reply.size() >= kDnsHeaderBytes);
  return (byte_at(reply, 2) & kTc) != 0;
}
void set_id(std::string& message, std::uint16_t id) {
  CHECK(message.size() >= kDnsHeaderBytes);
  message[0] = static_cast<char>(id >> 8);
  message[1] = static_cast<char>(id & 0xff);
}
std::uint16_t id_of(std::string_view message) {
  CHECK(message.size() >= kDnsHeaderBytes);
  return static_cast<std::uint16_t>(byte_at(message, 0) << 8 | byte_at(message, 1));
}

std::vector<std::string> label_list(std::string_view name) {
  std::vector<std::string> out;
  if (name.empty()) return out;
  out.emplace_back();
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '.') {
      out.emplace_back();
    } else {
      out.back() += lower(name[i]);
      if (name[i] == '\\' && i + 1 < name.size()) out.back() += lower(name[++i]);
    }
  }
  if (out.back().empty()) out.pop_back();
  return out;
}

}  // namespace skerry::net
