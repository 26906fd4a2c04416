import type { FileSetting, Problem } from '../config/model.js';
import type { Certificate } from './certificate.js';

/** The use of a certificate or CRL; label `role` of the metrics about dates. */
export type DatedRole = 'server' | 'client_ca' | 'client_crl' | 'upstream_client' | 'upstream_ca';

/** A validity period. */
export interface Period {
  readonly from: Date;
  /** `undefined`: it never ends. */
  readonly until: Date | undefined;
}

/** A certificate or CRL that is in use, with its dates. */
export interface Dated {
  readonly role: DatedRole;
  readonly setting: FileSetting;
  /** `the certificate of CN=…` */
  readonly name: string;
  /** Several periods for a CA that was renewed under the same name; one of them must be valid. */
  readonly periods: readonly Period[];
}

/** The reason why a certificate or CRL is not valid now. */
export type DateFault = 'expired' | 'not_yet_valid';

/** The validity period of a certificate. Unreadable dates are invalid dates: the certificate is then not valid. */
export function periodOf({ validFrom, validTo }: Pick<Certificate, 'validFrom' | 'validTo'>): Period {
  return { from: validFrom, until: validTo };
}

/** Whether a certificate or CRL is out of date now. */
export function dateFault({ periods }: Dated, now: Date): DateFault | undefined {
  if (periods.some(({ from, until }) => from <= now && (until === undefined || now < until)))
    return undefined;
  return periods.some(({ from }) => from > now) ? 'not_yet_valid' : 'expired';
}

/** When the last period ends; `undefined` if it never ends or is unknown. */
export function endOf({ periods }: Dated): Date | undefined {
  if (periods.some(({ until }) => until === undefined)) return undefined;
  const ends = periods.flatMap(({ until }) => readable(until));
  return ends.length === 0 ? undefined : new Date(Math.max(...ends));
}

function readable(date: Date | undefined): number[] {
  const ms = date?.getTime() ?? Number.NaN;
  return Number.isNaN(ms) ? [] : [ms];
}

/** The problem and its fix, as sentences. */
export function describeDateFault(
  dated: Dated,
  fault: DateFault,
): { readonly error: string; readonly fix: string } {
  const { role, setting, name, periods } = dated;
  const from = new Date(Math.min(...periods.flatMap((period) => readable(period.from))));
  const dates =
    fault === 'expired'
      ? `expired on ${endOf(dated)?.toISOString() ?? 'an unknown date'}`
      : `is not valid before ${from.toISOString()}`;
  return {
    error: `${setting.path}: ${name} ${dates}: ${CONSEQUENCES[role]}.`,
    fix:
      fault === 'expired'
        ? `${FIXES[role]}, or correct the clock of this machine.`
        : 'Correct the clock of this machine; otherwise wait, or use one that is already valid.',
  };
}

const CONSEQUENCES: Readonly<Record<DatedRole, string>> = {
  server: 'clients refuse to connect',
  client_ca: 'the clients of this CA are refused',
  client_crl: 'the clients of this CA are refused',
  upstream_client: 'upstreams that verify it refuse connections',
  upstream_ca: 'upstreams of this CA cannot be verified',
};

const FIXES: Readonly<Record<DatedRole, string>> = {
  server: 'Renew the certificate',
  client_ca: 'Replace the certificate of the CA, or remove it',
  client_crl: 'Replace the CRL with the current one of this CA, or remove it if the CA is not in use',
  upstream_client: 'Renew the certificate',
  upstream_ca: 'Replace the certificate of the CA, or remove it',
};

/**
 * The warning about a certificate or CRL that is out of date. It is used nevertheless, because dates must not prevent a start.
 */
export function dateProblem(dated: Dated, now: Date): Problem | undefined {
  const fault = dateFault(dated, now);
  if (fault === undefined) return undefined;
  const { error, fix } = describeDateFault(dated, fault);
  const { key, path } = dated.setting;
  return { severity: 'warning', key, message: `${error} ${fix}`, value: path, isAboutDates: true };
}
