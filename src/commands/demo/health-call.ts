import { Client, credentials } from '@grpc/grpc-js';

import { DEMO_CALL_MS } from '../../limits.js';
import { readContent } from '../../files/read-file.js';
import { HEALTH_REQUEST, HEALTH_SERVING, healthService } from './demo-service.js';

/**
 * Makes one health call through a TLS listener, as `gitlab-rake gitlab:gitaly:check` does.
 * Rejects with the gRPC error if it fails, or if the answer is not SERVING.
 */
export async function callHealth(target: string, caPath: string): Promise<void> {
  const options = {
    // An IP address is no server name (RFC 6066 section 3); the certificate has this one too.
    'grpc.ssl_target_name_override': 'localhost',
    'grpc.default_authority': 'localhost',
    // The environment may name a web proxy, which cannot reach this machine's loopback.
    'grpc.enable_http_proxy': 0,
  };
  const client = new Client(target, credentials.createSsl((await readContent(caPath)).bytes), options);
  try {
    await new Promise<void>((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = healthService.check;
      const deadline = Date.now() + DEMO_CALL_MS;
      client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        HEALTH_REQUEST,
        { deadline },
        (error, answer) => {
          if (error) reject(error);
          else if (answer?.equals(HEALTH_SERVING)) resolve();
          else reject(new Error('the health check did not answer SERVING'));
        },
      );
    });
  } finally {
    client.close();
  }
}
