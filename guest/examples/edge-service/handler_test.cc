// SPDX-License-Identifier: Apache-2.0
// The edge service compiled for the host, under a host of the http-wasm ABI made of strings.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <yyjson.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <string>

#include "http_wasm.h"

extern "C" uint64_t handle_request(void);

namespace {

struct Exchange {
  std::string method = "POST", uri = "/", body = {};
  std::size_t chunk_max = 1024;  // how much one http_read_body gives at most
  std::size_t read = 0;
  uint32_t status = 200;
  std::map<std::string, std::string> headers = {};
  std::string response = {};
};
Exchange* current = nullptr;

uint32_t give(std::string_view text, char* buffer, uint32_t size) {
  if (text.size() <= size) std::memcpy(buffer, text.data(), text.size());
  return static_cast<uint32_t>(text.size());
}

}  // namespace

extern "C" {
uint32_t http_get_method(char* buffer, uint32_t size) { return give(current->method, buffer, size); }
uint32_t http_get_uri(char* buffer, uint32_t size) { return give(current->uri, buffer, size); }
void http_set_status_code(uint32_t status) { current->status = status; }
void http_set_header_value(uint32_t kind, const char* name, uint32_t name_length, const char* value,
                           uint32_t value_length) {
  ASSERT_EQ(kind, static_cast<uint32_t>(HTTP_RESPONSE_HEADERS));
  ASSERT_EQ(current->response, "") << "a header after the first byte of the body";
  current->headers[std::string(name, name_length)] = std::string(value, value_length);
}
void http_write_body(uint32_t, const char* text, uint32_t length) { current->response.append(text, length); }
uint64_t http_read_body(uint32_t, char* buffer, uint32_t size) {
  const std::size_t count = std::min({current->body.size() - current->read, std::size_t{size}, current->chunk_max});
  std::memcpy(buffer, current->body.data() + current->read, count);
  current->read += count;
  const uint64_t at_end = current->read == current->body.size() ? 1 : 0;
  return at_end << 32 | count;
}
}

namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

Exchange serve(Exchange exchange) {
  current = &exchange;
  EXPECT_EQ(handle_request(), http_wasm_done());
  current = nullptr;
  return exchange;
}
Exchange post(std::string body) { return serve({.body = std::move(body)}); }
std::string reason(const std::string& body) {
  const Exchange answer = post(body);
  EXPECT_EQ(answer.status, 400U) << body;
  const auto from = answer.response.find(":\"") + 2;
  return answer.response.substr(from, answer.response.find("\",\"field\"") - from);
}

TEST(EdgeService, DescribesTheReadingsOfEachSensor) {
  const Exchange answer = post(R"({"device": "gw", "readings": [
    {"sensor": "t1", "value": 20, "at": 1763164800}, {"sensor": "t2", "value": -0.5},
    {"at": 1763164700, "value": 2.2e1, "sensor": "t1"}]})");
  EXPECT_EQ(answer.status, 200U);
  EXPECT_EQ(answer.headers.at("content-type"), "application/json");
  EXPECT_EQ(answer.response,
            "{\"device\":\"gw\",\"count\":3,\"from\":1763164700,\"to\":1763164800,\"sensors\":["
            "{\"sensor\":\"t1\",\"count\":2,\"min\":20,\"max\":22,\"mean\":21,\"stddev\":1.414214,\"median\":21},"
            "{\"sensor\":\"t2\",\"count\":1,\"min\":-0.5,\"max\":-0.5,\"mean\":-0.5,\"stddev\":0,\"median\":-0.5}],"
            "\"outliers\":[]}\n");
}

TEST(EdgeService, NamesAnOutlierThatMeanAndDeviationWouldHide) {
  // Mean 35.8 and deviation 34.8 would put 98 at 1.8 deviations.
  const Exchange answer =
      post(R"({"readings":[{"sensor":"a","value":20},{"sensor":"a","value":21},{"sensor":"a","value":98},
    {"sensor":"a","value":19},{"sensor":"a","value":21}]})");
  EXPECT_THAT(answer.response, HasSubstr(R"("outliers":[{"reading":2,"sensor":"a","value":98,"median":21}])"));
}

TEST(EdgeService, FindsTheOutlierAmongReadingsThatAreAllTheSame) {
  std::string body = R"({"readings":[{"sensor":"a","value":7.25})";
  for (int i = 0; i < 19; i++) body += R"(,{"sensor":"a","value":7})";
  EXPECT_THAT(post(body + "]}").response, HasSubstr(R"("outliers":[{"reading":0,)"));
}

TEST(EdgeService, StartsEachRequestAfresh) {
  const std::string body = R"({"readings":[{"sensor":"a","value":1}]})";
  const std::string first = post(body).response;
  EXPECT_EQ(post(R"({"device":"x","readings":[{"sensor":"b","value":3,"at":1},{"sensor":"a","value":2}]})").status,
            200U);
  EXPECT_EQ(post("{").status, 400U);
  EXPECT_EQ(post(body).response, first);
}

TEST(EdgeService, SaysWhatIsWrongAndWhere) {
  EXPECT_EQ(reason(""), "the batch ends too early");
  EXPECT_EQ(reason("[]"), "the batch is not an object");
  EXPECT_EQ(reason("{}"), "needs a field's name in quotes here");
  EXPECT_EQ(reason(R"({"device":"a"})"), "readings is missing");
  EXPECT_EQ(reason(R"({"devise":"a"})"), "the batch has a field other than device and readings");
  EXPECT_EQ(reason(R"({"device":1})"), "device is not a string");
  EXPECT_EQ(reason(R"({"readings":{}})"), "readings is not a list");
  EXPECT_EQ(reason(R"({"readings":[]})"), "readings is empty");
  EXPECT_EQ(reason(R"({"readings":[1]})"), "readings[0] is not an object");
  EXPECT_EQ(reason(R"({"readings":[{"sensor":"a","value":1},{"sensor":"a"}]})"), "readings[1].value is missing");
  EXPECT_EQ(reason(R"({"readings":[{"value":1}]})"), "readings[0].sensor is missing");
  EXPECT_EQ(reason(R"({"readings":[{"value":"1"}]})"), "readings[0].value is not a number");
  EXPECT_EQ(reason(R"({"readings":[{"value":1,"value":1}]})"), "readings[0].value is given twice");
  EXPECT_EQ(reason(R"({"readings":[{"value":01}]})"), "readings[0].value is a number that starts with 0");
  EXPECT_EQ(reason(R"({"readings":[{"value":1e13}]})"), "readings[0].value lies beyond 1e12, which no sensor measures");
  EXPECT_EQ(reason(R"({"readings":[{"at":1.5}]})"), "readings[0].at is not a whole number of seconds");
  EXPECT_EQ(reason(R"({"readings":[{"sensor":""}]})"), "readings[0].sensor is empty");
  EXPECT_EQ(reason(R"({"readings":[{"sensor":"a\x"}]})"), "readings[0].sensor has an unknown escape after a backslash");
  EXPECT_EQ(reason(R"({"readings":[{"sensor":"\u12"}]})"),
            R"(readings[0].sensor has \\u without four hexadecimal digits)");
  EXPECT_EQ(reason("{\"readings\":[{\"sensor\":\"\xC0\x80\"}]}"), "readings[0].sensor is not UTF-8");
  EXPECT_EQ(reason(R"({"readings":[{"sensor":"a","value":1}]} x)"), "something follows the batch");
  EXPECT_EQ(reason(R"({"readings":[{"sensor":"a","unit":"C"}]})"),
            "readings[0] has a field other than sensor, value and at");

  const Exchange answer = post("{\"readings\": [\n  {\"sensor\": \"a\",\n   \"value\": x}]}");
  EXPECT_THAT(answer.response, HasSubstr(R"("field":"value","offset":45,"line":3,"column":13})"));
}

TEST(EdgeService, KeepsItsLimits) {
  const auto batch_of = [](int readings, int sensors) {
    std::string body = "{\"readings\":[";
    for (int i = 0; i < readings; i++) {
      body += (i > 0 ? ",{\"sensor\":\"s" : "{\"sensor\":\"s") + std::to_string(i % sensors) +
              "\",\"value\":" + std::to_string(i) + "}";
    }
    return body + "]}";
  };
  EXPECT_THAT(post(batch_of(4096, 64)).response, HasSubstr("\"count\":4096"));
  EXPECT_EQ(reason(batch_of(4097, 64)), "readings[4096] is one more than the 4096 that a batch may have; split it");
  EXPECT_EQ(reason(batch_of(65, 65)), "readings[64].sensor names more than 64 sensors; split the batch");
  EXPECT_EQ(post(R"({"readings":[{"sensor":")" + std::string(48, 'x') + R"(","value":1}]})").status, 200U);
  EXPECT_EQ(reason(R"({"readings":[{"sensor":")" + std::string(49, 'x') + R"(","value":1}]})"),
            "readings[0].sensor is longer than 48 bytes");
}

TEST(EdgeService, ReadsABodyInPiecesOfAnySize) {
  const std::string body = R"({"device":"\u00e9\ud83d\ude00","readings":[{"sensor":"t\"\u0001","value":-12.5e-1}]})";
  const std::string whole = post(body).response;
  EXPECT_THAT(whole, HasSubstr("\"device\":\"\u00e9\U0001F600\""));
  EXPECT_THAT(whole, HasSubstr(R"("sensor":"t\"\u0001","count":1,"min":-1.25)"));
  for (std::size_t size = 1; size < 40; size++) {
    EXPECT_EQ(serve({.body = body, .chunk_max = size}).response, whole) << size;
  }
}

TEST(EdgeService, AnswersTheOtherPathsAndMethods) {
  EXPECT_THAT(serve({.method = "GET"}).response, StartsWith("POST a batch"));
  EXPECT_EQ(serve({.method = "GET", .uri = "/healthz?full"}).response, "ok\n");
  EXPECT_EQ(serve({.method = "GET", .uri = "/other"}).status, 404U);
  EXPECT_EQ(serve({.method = "GET", .uri = "/" + std::string(5000, 'a')}).status, 404U);
  const Exchange refused = serve({.method = "DELETE"});
  EXPECT_EQ(refused.status, 405U);
  EXPECT_EQ(refused.headers.at("allow"), "GET, HEAD, POST");
  EXPECT_EQ(serve({.method = "PROPPATCHES"}).status, 405U);
}

bool is_json(const std::string& text) {
  yyjson_doc* document = yyjson_read(text.data(), text.size(), YYJSON_READ_NOFLAG);
  yyjson_doc_free(document);
  return document != nullptr;
}

// Goal: no input breaks the parser (the sanitizers look on), every answer is JSON, and nothing that is not JSON passes.
// Method: good batches with bytes changed, removed, doubled and cut, by a fixed seed, beside an independent parser.
TEST(EdgeService, SurvivesBrokenBatchesAndAcceptsNothingThatIsNotJson) {
  const std::string good =
      R"({"device":"gw-é\n","readings":[{"sensor":"t1","value":20.25,"at":1763164800},{"sensor":"\u00e9","value":-1.5E+3},)"
      R"({"value":0.0,"sensor":"t1"} , {"sensor":"t1","value":1e-7}]})";
  std::mt19937 random(20261123);
  const auto below = [&random](std::size_t limit) { return static_cast<std::size_t>(random() % limit); };
  constexpr std::string_view kBytes = "{}[]\",:\\0123456789eE+-.untrf \n\x01\x7f\x80\xc3\xed\xf4\xff";
  int accepted = 0;
  for (int round = 0; round < 60'000; round++) {
    std::string body = good;
    for (std::size_t edits = below(4); edits-- > 0 && !body.empty();) {
      const std::size_t at = below(body.size());
      switch (below(4)) {
        case 0:
          body[at] = kBytes[below(kBytes.size())];
          break;
        case 1:
          body.erase(at, 1 + below(4));
          break;
        case 2:
          body.insert(at, body.substr(at, below(24)));
          break;
        default:
          body.insert(at, 1, kBytes[below(kBytes.size())]);
      }
    }
    const Exchange answer = serve({.body = body, .chunk_max = 1 + below(64)});
    ASSERT_TRUE(answer.status == 200 || answer.status == 400) << body;
    ASSERT_TRUE(is_json(answer.response)) << body << "\n" << answer.response;
    if (answer.status == 200) {
      accepted++;
      ASSERT_TRUE(is_json(body)) << body;
    }
  }
  EXPECT_GT(accepted, 10'000);
}

// Goal: numbers mean what they mean elsewhere. Method: the same digits through strtod.
TEST(EdgeService, ReadsNumbersAsTheLibraryDoes) {
  std::mt19937 random(7);
  for (int round = 0; round < 5000; round++) {
    std::string digits = std::to_string(random() % 1'000'000'000);
    if (random() % 2) digits += "." + std::to_string(random() % 100'000);
    if (random() % 4 == 0) digits += "e-" + std::to_string(random() % 6);
    const Exchange answer = post("{\"readings\":[{\"sensor\":\"a\",\"value\":" + digits + "}]}");
    const auto from = answer.response.find("\"min\":") + 6;
    EXPECT_NEAR(std::stod(answer.response.substr(from)), std::stod(digits), 5.1e-7) << digits;
  }
}

}  // namespace
