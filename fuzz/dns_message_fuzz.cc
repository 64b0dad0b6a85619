// SPDX-License-Identifier: Apache-2.0
// What a client of the name server sends, and what an upstream does: the first byte says which, and how much room the
// answer has. A query that is read is answered, within the room, by bytes that are a reply to it.
#include "fuzz/fuzz.h"
#include "net/dns_message.h"
#include "net/names.h"
#include "net/upstreams.h"

namespace skerry::fuzz {
namespace {

net::Names names() {
  net::Names out({});
  out.set_complete();
  const auto object = [](std::string_view json) {
    auto made = kube::Object::from_json(std::string(json));
    REQUIRE(made.has_value());
    return *made;
  };
  out.put_service(*object(
      R"({"metadata":{"name":"a","namespace":"n"},"spec":{"clusterIP":"10.43.0.20","ports":[{"name":"p","port":80}]}})"));
  out.put_service(*object(
      R"({"metadata":{"name":"h","namespace":"n"},"spec":{"clusterIP":"None","ports":[{"name":"p","port":80}]}})"));
  out.put_service(*object(
      R"({"metadata":{"name":"e","namespace":"n"},"spec":{"type":"ExternalName","externalName":"h.n.svc.cluster.local"}})"));
  std::string endpoints;
  for (int i = 3; i < 60; ++i)
    endpoints += (i == 3 ? "" : ",") + std::string(R"({"addresses":["10.42.0.)") + std::to_string(i) + R"("]})";
  out.put_slice(*object(
      R"({"metadata":{"name":"h-1","namespace":"n","labels":{"kubernetes.io/service-name":"h"}},"addressType":"IPv4","ports":[{"name":"p","port":80}],"endpoints":[)" +
      endpoints + "]}"));
  return out;
}

void answer(std::string_view bytes, std::size_t most) {
  static const net::Names known = names();
  const auto query = net::read_query(bytes);
  if (!query) {
    REQUIRE(query.error().empty() || query.error().size() >= net::kDnsHeaderBytes);
    return;
  }
  REQUIRE(query->udp_bytes_max >= net::kDnsUdpBytes);
  const auto found = known.answer(query->question);
  const std::string reply =
      net::write_answer(*query, found ? found->message : net::DnsAnswer{.code = net::DnsCode::ServFail}, most);
  REQUIRE(reply.size() <= most);
  REQUIRE(net::is_reply(reply, query->id, query->question));
  REQUIRE(net::read_reply(reply).has_value());
}

}  // namespace

void fuzz_one(std::string_view input) {
  const auto kind = take_byte(input);
  if (kind % 4 == 3) {
    (void)net::Upstreams::parse(input, {"10.43.0.10"});
    return;
  }
  if (kind % 4 == 2) {
    const net::DnsQuestion question{.name = "a.example.com"};
    if (input.size() >= net::kDnsHeaderBytes && net::is_reply(input, net::id_of(input), question)) {
      (void)net::reply_truncated(input);
      if (const auto read = net::read_reply(input)) {
        const net::DnsQuery query{.id = 1, .question = question, .edns = true};
        REQUIRE(net::write_answer(query, *read, net::kDnsUdpBytes).size() <= net::kDnsUdpBytes);
      }
    }
    return;
  }
  answer(input, kind % 2 == 0 ? net::kDnsUdpBytes : net::kDnsTcpBytesMax);
}
}  // namespace skerry::fuzz
