/** Options of a gRPC channel that has a connection of its own, expects `localhost`, and uses no web proxy of the environment. */
export const OWN_CONNECTION = {
  'grpc.ssl_target_name_override': 'localhost',
  'grpc.default_authority': 'localhost',
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_http_proxy': 0,
} as const;
