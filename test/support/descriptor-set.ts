import protobuf from 'protobufjs/minimal.js';

const { Writer } = protobuf;
type Writer = InstanceType<typeof Writer>;

type Value = string | number | Uint8Array;

/** A message with these fields, by number; several values are a repeated field. */
export function message(fields: Readonly<Record<number, Value | readonly Value[]>>): Uint8Array {
  const writer = Writer.create();
  for (const [key, values] of Object.entries(fields))
    for (const value of Array.isArray(values) ? (values as readonly Value[]) : [values as Value])
      writeField(writer, Number(key), value);
  return writer.finish();
}

function writeField(writer: Writer, number: number, value: Value): void {
  if (typeof value === 'number') writer.uint32(number << 3).int32(value);
  else if (typeof value === 'string') writer.uint32((number << 3) | 2).string(value);
  else writer.uint32((number << 3) | 2).bytes(value);
}

interface FieldOptions {
  readonly type?: string;
  readonly options?: Uint8Array;
}

/** `FieldDescriptorProto`. */
export function field(name: string, number: number, { type, options }: FieldOptions = {}): Uint8Array {
  return message({
    1: name,
    3: number,
    ...(type !== undefined && { 6: type }),
    ...(options !== undefined && { 8: options }),
  });
}

/** `MethodDescriptorProto`; `operation`: the number in `OperationMsg.Operation`. */
export function method(
  name: string,
  input: string,
  { client = 0, server = 0, operation }: { client?: number; server?: number; operation?: number } = {},
): Uint8Array {
  return message({
    1: name,
    2: input,
    ...(operation !== undefined && { 4: message({ 82_303: message({ 1: operation }) }) }),
    5: client,
    6: server,
  });
}

export const STORAGE = message({ 91_233: 1 });
export const TARGET_REPOSITORY = message({ 91_235: 1 });

/** A set with one file of the package `gitaly`. */
export function descriptorSet(messages: readonly Uint8Array[], services: readonly Uint8Array[]): Uint8Array {
  return message({ 1: message({ 1: 'gitaly.proto', 2: 'gitaly', 4: messages, 6: services }) });
}
