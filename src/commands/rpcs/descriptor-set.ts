import { readMessage, readString, WIRE_TYPE } from '../../gitaly-client/protobuf.js';
import type { RpcOperation, RpcType } from '../../policy/known-rpcs.js';
import type { Rpc } from '../../policy/rpc-table.js';

/** The parts of a `FileDescriptorSet` (google/protobuf/descriptor.proto) that are read. */
interface Field {
  name: string;
  number: number;
  /** The full name of its message type, with a leading dot; empty for other types. */
  typeName: string;
  isStorage: boolean;
  isTargetRepository: boolean;
}

interface Method {
  name: string;
  inputType: string;
  isClientStreaming: boolean;
  isServerStreaming: boolean;
  operation: RpcOperation;
}

interface Service {
  readonly name: string;
  readonly methods: readonly Method[];
}

/** The options of Gitaly's proto/lint.proto, by field number. */
const OPTION = { opType: 82_303, storage: 91_233, targetRepository: 91_235 } as const;

/** `OperationMsg.Operation`. */
const OPERATIONS: readonly RpcOperation[] = ['none', 'mutator', 'accessor', 'maintenance'];

const REPOSITORY = '.gitaly.Repository';

/** Messages within messages that are searched for a repository: Gitaly's are at depth 2. */
const MAX_DEPTH = 4;

/**
 * Reads the RPCs of a descriptor set that `protoc --descriptor_set_out --include_imports` has written.
 *
 * @returns the RPCs, or the reason why the bytes cannot be used
 */
export function readDescriptorSet(bytes: Uint8Array): Rpc[] | string {
  const services: Service[] = [];
  const messages = new Map<string, readonly Field[]>();
  const files: Uint8Array[] = [];
  const isRead = readMessage(bytes, {
    1: [WIRE_TYPE.lengthDelimited, (reader) => files.push(reader.bytes())],
  });
  if (!isRead || files.length === 0 || !files.every((file) => readFile(file, services, messages)))
    return 'it is not a FileDescriptorSet';
  if (services.length === 0) return 'it contains no service';
  return services.flatMap(({ name, methods }) => methods.map((method) => rpcOf(name, method, messages)));
}

function rpcOf(service: string, method: Method, messages: ReadonlyMap<string, readonly Field[]>): Rpc {
  const repositoryField = findField(method.inputType, messages, (field) => field.isTargetRepository);
  return {
    service,
    method: method.name,
    type: typeOf(method),
    operation: method.operation,
    repositoryField: repositoryField && throughPool(repositoryField, messages),
    storageField: repositoryField
      ? undefined
      : findField(method.inputType, messages, (field) => field.isStorage)?.numbers,
  };
}

function typeOf({ isClientStreaming, isServerStreaming }: Method): RpcType {
  if (isClientStreaming) return isServerStreaming ? 'bidi_stream' : 'client_stream';
  return isServerStreaming ? 'server_stream' : 'unary';
}

interface Found {
  readonly field: Field;
  readonly numbers: readonly number[];
}

/** The first field of a message that matches, searched level by level. */
function findField(
  type: string,
  messages: ReadonlyMap<string, readonly Field[]>,
  matches: (field: Field) => boolean,
): Found | undefined {
  let level: { readonly type: string; readonly numbers: readonly number[] }[] = [{ type, numbers: [] }];
  for (let depth = 0; depth < MAX_DEPTH && level.length > 0; depth++) {
    const fields = level.flatMap(({ type: of, numbers }) =>
      (messages.get(of) ?? []).map((field): Found => ({ field, numbers: [...numbers, field.number] })),
    );
    const found = fields.find(({ field }) => matches(field));
    if (found) return found;
    level = fields.flatMap(({ field, numbers }) =>
      field.typeName === '' ? [] : [{ type: field.typeName, numbers }],
    );
  }
  return undefined;
}

/** The numbers up to the `Repository`: the marked field may be an `ObjectPool`, which contains one. */
function throughPool(
  { field, numbers }: Found,
  messages: ReadonlyMap<string, readonly Field[]>,
): readonly number[] {
  if (field.typeName === REPOSITORY) return numbers;
  const inner = messages.get(field.typeName)?.find(({ typeName }) => typeName === REPOSITORY);
  return inner ? [...numbers, inner.number] : numbers;
}

/** `FileDescriptorProto`. */
function readFile(bytes: Uint8Array, services: Service[], messages: Map<string, readonly Field[]>): boolean {
  let packageName = '';
  const [messageBytes, serviceBytes]: [Uint8Array[], Uint8Array[]] = [[], []];
  const isRead = readMessage(bytes, {
    2: [WIRE_TYPE.lengthDelimited, (reader) => (packageName = readString(reader))],
    4: [WIRE_TYPE.lengthDelimited, (reader) => messageBytes.push(reader.bytes())],
    6: [WIRE_TYPE.lengthDelimited, (reader) => serviceBytes.push(reader.bytes())],
  });
  const prefix = packageName === '' ? '' : `${packageName}.`;
  return (
    isRead &&
    messageBytes.every((message) => readMessageType(message, `.${prefix}`, messages)) &&
    serviceBytes.every((service) => readService(service, prefix, services))
  );
}

/** `DescriptorProto`, with the messages that are declared in it. */
function readMessageType(
  bytes: Uint8Array,
  prefix: string,
  messages: Map<string, readonly Field[]>,
): boolean {
  let name = '';
  const fields: (Field | undefined)[] = [];
  const nested: Uint8Array[] = [];
  const isRead = readMessage(bytes, {
    1: [WIRE_TYPE.lengthDelimited, (reader) => (name = readString(reader))],
    2: [WIRE_TYPE.lengthDelimited, (reader) => fields.push(readField(reader.bytes()))],
    3: [WIRE_TYPE.lengthDelimited, (reader) => nested.push(reader.bytes())],
  });
  messages.set(
    `${prefix}${name}`,
    fields.flatMap((field) => field ?? []),
  );
  return (
    isRead &&
    !fields.includes(undefined) &&
    nested.every((message) => readMessageType(message, `${prefix}${name}.`, messages))
  );
}

/** `FieldDescriptorProto`; `undefined` if it is malformed. */
function readField(bytes: Uint8Array): Field | undefined {
  const field: Field = { name: '', number: 0, typeName: '', isStorage: false, isTargetRepository: false };
  let options: Uint8Array | undefined;
  const isRead = readMessage(bytes, {
    1: [WIRE_TYPE.lengthDelimited, (reader) => (field.name = readString(reader))],
    3: [WIRE_TYPE.varint, (reader) => (field.number = reader.int32())],
    6: [WIRE_TYPE.lengthDelimited, (reader) => (field.typeName = readString(reader))],
    8: [WIRE_TYPE.lengthDelimited, (reader) => (options = reader.bytes())],
  });
  if (!isRead) return undefined;
  if (!options) return field;
  const hasOptions = readMessage(options, {
    [OPTION.storage]: [WIRE_TYPE.varint, (reader) => (field.isStorage = reader.bool())],
    [OPTION.targetRepository]: [WIRE_TYPE.varint, (reader) => (field.isTargetRepository = reader.bool())],
  });
  return hasOptions ? field : undefined;
}

/** `ServiceDescriptorProto`. */
function readService(bytes: Uint8Array, prefix: string, services: Service[]): boolean {
  let name = '';
  const methods: (Method | undefined)[] = [];
  const isRead = readMessage(bytes, {
    1: [WIRE_TYPE.lengthDelimited, (reader) => (name = prefix + readString(reader))],
    2: [WIRE_TYPE.lengthDelimited, (reader) => methods.push(readMethod(reader.bytes()))],
  });
  services.push({ name, methods: methods.flatMap((method) => method ?? []) });
  return isRead && !methods.includes(undefined);
}

/** `MethodDescriptorProto`; `undefined` if it is malformed. */
function readMethod(bytes: Uint8Array): Method | undefined {
  const method: Method = {
    name: '',
    inputType: '',
    isClientStreaming: false,
    isServerStreaming: false,
    operation: 'none',
  };
  let options: Uint8Array | undefined;
  const isRead = readMessage(bytes, {
    1: [WIRE_TYPE.lengthDelimited, (reader) => (method.name = readString(reader))],
    2: [WIRE_TYPE.lengthDelimited, (reader) => (method.inputType = readString(reader))],
    4: [WIRE_TYPE.lengthDelimited, (reader) => (options = reader.bytes())],
    5: [WIRE_TYPE.varint, (reader) => (method.isClientStreaming = reader.bool())],
    6: [WIRE_TYPE.varint, (reader) => (method.isServerStreaming = reader.bool())],
  });
  if (!isRead) return undefined;
  let opType: Uint8Array | undefined;
  const hasOptions =
    !options ||
    readMessage(options, {
      [OPTION.opType]: [WIRE_TYPE.lengthDelimited, (reader) => (opType = reader.bytes())],
    });
  const hasOperation =
    !opType ||
    readMessage(opType, {
      1: [WIRE_TYPE.varint, (reader) => (method.operation = OPERATIONS[reader.int32()] ?? 'mutator')],
    });
  return hasOptions && hasOperation ? method : undefined;
}
