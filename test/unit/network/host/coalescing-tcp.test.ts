import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { coalesce } from "../../../../network/host/coalescing-tcp.ts";

const open: { destroy(): void }[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.destroy();
});

async function pair(): Promise<[Socket, Socket]> {
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer((socket) => accepted.resolve(socket));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
  await new Promise((resolve) => client.once("connect", resolve));
  const other = await accepted.promise;
  server.close();
  open.push(client, other);
  return [client, other];
}

test("what is written in one turn leaves in one write, in order", async () => {
  const [near, far] = await pair();
  coalesce(near);
  let writes = 0;
  const writev = near._writev!.bind(near);
  near._writev = (chunks, done) => {
    writes++;
    writev(chunks, done);
  };
  const received: Buffer[] = [];
  far.on("data", (chunk: Buffer) => received.push(chunk));
  const parts = Array.from({ length: 20 }, (_, i) => Buffer.alloc(i + 1, i));
  for (const part of parts) near.write(part);
  const wanted = Buffer.concat(parts);
  while (Buffer.concat(received).length < wanted.length) await new Promise(setImmediate);
  expect(Buffer.concat(received).equals(wanted)).toBe(true);
  expect(writes).toBe(1);
});

test("an end after writes still sends them", async () => {
  const [near, far] = await pair();
  coalesce(near);
  near.write("a");
  near.end("b");
  const received: Buffer[] = [];
  for await (const chunk of far) received.push(chunk as Buffer);
  expect(Buffer.concat(received).toString()).toBe("ab");
});
