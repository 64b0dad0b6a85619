# SPDX-License-Identifier: Apache-2.0
# kube_schema(OUT_VARIABLE): generates the schema table into the build folder from the Kubernetes API packages of this
# machine (Debian: golang-k8s-api-dev, golang-k8s-apimachinery-dev), and sets OUT_VARIABLE to the source file.
# Nothing of theirs is copied into the repository.
set(SKERRY_GO_ROOT "/usr/share/gocode/src" CACHE PATH "Where the Go sources of k8s.io/api and k8s.io/apimachinery lie")

# The kinds that we serve, and what their requests and answers are made of; the closure is added by the generator.
set(SKERRY_SCHEMA_ROOTS
  core.v1.Namespace core.v1.NamespaceList core.v1.Node core.v1.NodeList core.v1.Pod core.v1.PodList
  core.v1.Service core.v1.ServiceList core.v1.ConfigMap core.v1.ConfigMapList core.v1.Secret core.v1.SecretList
  core.v1.ServiceAccount core.v1.ServiceAccountList core.v1.Event core.v1.EventList core.v1.Binding
  core.v1.PodLogOptions
  apps.v1.Deployment apps.v1.DeploymentList apps.v1.ReplicaSet apps.v1.ReplicaSetList
  discovery.v1.EndpointSlice discovery.v1.EndpointSliceList
  events.v1.Event events.v1.EventList
  certificates.v1.CertificateSigningRequest certificates.v1.CertificateSigningRequestList
  coordination.v1.Lease coordination.v1.LeaseList
  node.v1.RuntimeClass node.v1.RuntimeClassList
  autoscaling.v1.Scale policy.v1.Eviction
  authentication.v1.TokenRequest authentication.v1.TokenReview authentication.v1.SelfSubjectReview
  authorization.v1.SelfSubjectAccessReview authorization.v1.SelfSubjectRulesReview authorization.v1.SubjectAccessReview)
set(SKERRY_SCHEMA_META_ROOTS
  Status DeleteOptions CreateOptions UpdateOptions PatchOptions ListOptions GetOptions WatchEvent LabelSelector
  PartialObjectMetadata PartialObjectMetadataList APIGroup APIGroupList APIResourceList APIVersions)

function(kube_schema out_variable)
  find_package(Protobuf REQUIRED)
  set(protos)
  foreach(package core apps certificates discovery events coordination node autoscaling policy authentication authorization)
    list(APPEND protos k8s.io/api/${package}/v1/generated.proto)
  endforeach()
  set(roots)
  foreach(root IN LISTS SKERRY_SCHEMA_ROOTS)
    list(APPEND roots k8s.io.api.${root})
  endforeach()
  foreach(root IN LISTS SKERRY_SCHEMA_META_ROOTS)
    list(APPEND roots k8s.io.apimachinery.pkg.apis.meta.v1.${root})
  endforeach()
  foreach(proto IN LISTS protos)
    if(NOT EXISTS ${SKERRY_GO_ROOT}/${proto})
      message(FATAL_ERROR "${SKERRY_GO_ROOT}/${proto} is missing: install golang-k8s-api-dev and golang-k8s-apimachinery-dev "
        "(scripts/setup does), or point SKERRY_GO_ROOT at a Go source tree that holds k8s.io/api 0.32")
    endif()
  endforeach()

  if(NOT TARGET skerry_schema_gen)
    add_executable(skerry_schema_gen ${CMAKE_SOURCE_DIR}/tools/schema_gen/main.cc)
    target_include_directories(skerry_schema_gen PRIVATE ${CMAKE_SOURCE_DIR}/src)
    target_include_directories(skerry_schema_gen SYSTEM PRIVATE ${Protobuf_INCLUDE_DIRS})
    target_link_libraries(skerry_schema_gen PRIVATE ${Protobuf_LIBRARIES})
  endif()
  set(descriptors ${CMAKE_CURRENT_BINARY_DIR}/kube_schema.pb)
  set(table ${CMAKE_CURRENT_BINARY_DIR}/kube_schema_table.cc)
  add_custom_command(OUTPUT ${table}
    # protoc warns of unused imports in files that are not ours; what it says is shown only when it fails.
    COMMAND sh -c "\"$@\" 2>${descriptors}.log || { cat ${descriptors}.log >&2; exit 1; }" protoc
            $<TARGET_FILE:protobuf::protoc> --proto_path=${SKERRY_GO_ROOT} --include_source_info --include_imports
            --descriptor_set_out=${descriptors} ${protos}
    COMMAND skerry_schema_gen ${SKERRY_GO_ROOT} ${descriptors} ${table} ${roots}
    DEPENDS skerry_schema_gen ${CMAKE_SOURCE_DIR}/cmake/kube_schema.cmake
    COMMENT "Generating the Kubernetes schema table"
    VERBATIM)
  set(${out_variable} ${table} PARENT_SCOPE)
  set(Protobuf_PROTOC_EXECUTABLE ${Protobuf_PROTOC_EXECUTABLE} PARENT_SCOPE)
endfunction()
