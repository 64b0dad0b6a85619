// SPDX-License-Identifier: Apache-2.0
// The forms of names in Kubernetes. Each check answers the sentences that Kubernetes answers; none means good.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace skerry::kube {

using Complaints = std::vector<std::string>;

Complaints check_dns1123_label(std::string_view);
Complaints check_dns1123_subdomain(std::string_view);
Complaints check_dns1035_label(std::string_view);
Complaints check_qualified_name(std::string_view);  // "example.com/name"
Complaints check_label_value(std::string_view);
Complaints check_port_name(std::string_view);
Complaints check_c_identifier(std::string_view);
Complaints check_env_name(std::string_view);
Complaints check_config_key(std::string_view);
Complaints check_percent(std::string_view);
bool is_ipv4(std::string_view);
bool is_ipv6(std::string_view);
inline bool is_ip(std::string_view text) { return is_ipv4(text) || is_ipv6(text); }
std::string join_complaints(const Complaints&, std::string_view separator);

}  // namespace skerry::kube
