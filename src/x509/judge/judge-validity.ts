import { CERTIFICATE_WARN_DAYS } from '../../limits.js';
import { isoDate } from '../iso-date.js';
import { error, warning, type CertificateFinding, type Judged } from './certificate-finding.js';

const DAY_MS = 86_400_000;

/** Days left, rounded down: 0 on the last day, negative after it. */
export function daysLeft({ validTo }: { readonly validTo: Date }, now: Date): number {
  return Math.floor((validTo.getTime() - now.getTime()) / DAY_MS);
}

/** Whether a certificate is valid now, and whether it expires soon. */
export function judgeValidity({ x509, name }: Judged, now: Date): CertificateFinding[] {
  if (Number.isNaN(x509.validFrom.getTime()) || Number.isNaN(x509.validTo.getTime()))
    return [error('broken_certificate', `${name} has a date that cannot be read`, 'have it issued again')];
  if (x509.validTo < now)
    return [error('expired', `${name} expired on ${isoDate(x509.validTo)}`, 'renew it')];
  if (x509.validFrom > now) {
    return [
      error(
        'not_yet_valid',
        `${name} is not valid before ${isoDate(x509.validFrom)}`,
        "is this machine's clock right?",
      ),
    ];
  }
  const days = daysLeft(x509, now);
  if (days >= CERTIFICATE_WARN_DAYS) return [];
  const left = days === 0 ? 'within a day' : `in ${days} ${days === 1 ? 'day' : 'days'}`;
  return [warning('expires_soon', `${name} expires ${left}, on ${isoDate(x509.validTo)}`, 'renew it')];
}
