import { error, warning, type CertificateFinding } from './certificate-finding.js';

const READ_OR_WRITE = 0o6;

/** Whether users other than its owner may read a private key. @param mode - as in `stat` */
export function judgeKeyMode(mode: number): CertificateFinding[] {
  if ((mode & READ_OR_WRITE) !== 0)
    return [warning('key_readable_by_others', 'readable by others', 'chmod 600 it')];
  if ((mode & (READ_OR_WRITE << 3)) !== 0) {
    return [
      warning(
        'key_readable_by_group',
        `readable by its group (mode ${(mode & 0o777).toString(8).padStart(4, '0')})`,
        'chmod 600 it, unless the program that uses it reads it as a member of that group',
      ),
    ];
  }
  return [];
}

/** Finds problems in the text of a certificate file in which a certificate was found. */
export function judgeCertificateText(text: string): CertificateFinding[] {
  const findings: CertificateFinding[] = [];
  if (/-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----/u.test(text)) {
    findings.push(
      warning(
        'key_in_certificate_file',
        'the certificate file contains a private key, but certificate files are copied and readable by others',
        'move the key to a file of its own with mode 0600',
      ),
    );
  }
  // PEM_read_bio and Go's encoding/pem recognise the marker only at the beginning of a line and skip any other.
  if (/[^\r\n]-----BEGIN CERTIFICATE-----/u.test(text)) {
    findings.push(
      error(
        'misplaced_marker',
        text.startsWith('\u{feff}')
          ? 'the file begins with a byte order mark, so that Gitaly and OpenSSL do not see the certificate after it'
          : 'a BEGIN CERTIFICATE is not at the beginning of its line, so that Gitaly and OpenSSL do not see that certificate',
        'save the file as plain text with each marker on a line of its own',
      ),
    );
  }
  return findings;
}
