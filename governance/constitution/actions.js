/**
 * The constitution, part 1: what a proposal may do.
 *
 * A constitution is one module: these four files, one after the other. A proposal is a list of actions with arguments.
 * Each action below has two parts: `validate` looks at the arguments before anyone votes, `apply` does the deed once the
 * proposal is accepted, all actions of a proposal together or none.
 *
 * Names, arguments and effects are those of CCF 7.0's default constitution. It differs where that one is lenient:
 * an argument that an action does not know is refused (a misspelt one would silently do nothing), the last active member
 * and the last trusted node cannot be removed, and encryption keys are looked at before a share depends on them.
 *
 * Other files may add actions: `actions.set("name", new Action(validate, apply))`.
 */

class Action {
  /**
   * @param validate `(args) => void`, throws to refuse.
   * @param apply `(args, proposalId) => void`, throws to undo the whole proposal.
   */
  constructor(validate, apply) {
    this.validate = validate;
    this.apply = apply;
  }
}

// Tables. Keys and values are bytes; what is here is JSON or text.

/** The key of a table that has one row. */
const ONLY = new ArrayBuffer(8);
/** The value of a table that is a set of keys. */
const PRESENT = new ArrayBuffer(8);

const table = (name) => ccf.kv[`public:ccf.gov.${name}`];
const bytes = (text) => ccf.strToBuf(text);

function readJson(name, key) {
  const value = table(name).get(key);
  return value === undefined ? undefined : ccf.bufToJsonCompatible(value);
}

function writeJson(name, key, value) {
  table(name).set(key, ccf.jsonCompatibleToBuf(value));
}

/** The single row of a table that every service has. */
function readOnly(name) {
  const value = readJson(name, ONLY);
  if (value === undefined) throw new Error(`${name} could not be found`);
  return value;
}

// Checks of arguments. Each takes a value and the argument's name, and throws.

function refuse(name, expected) {
  throw new Error(`${name} must be ${expected}`);
}

function string(value, name) {
  if (typeof value !== "string") refuse(name, "a string");
}

function object(value, name) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) refuse(name, "an object");
}

function anything() {}

/** An id of a member, user or node: the SHA-256 of a certificate or key. */
function entityId(value, name) {
  string(value, name);
  if (!/^[0-9a-f]{64}$/.test(value)) refuse(name, "64 lower-case hexadecimal digits");
}

/** A SHA-256 digest. */
const digest = entityId;

function certificate(value, name) {
  string(value, name);
  if (!ccf.crypto.isValidX509CertBundle(value)) refuse(name, "a valid X.509 certificate in PEM format");
}

/** Recovery shares are encrypted to it. */
function encryptionKey(value, name) {
  string(value, name);
  let key;
  try {
    key = ccf.crypto.pubRsaPemToJwk(value);
  } catch (error) {
    refuse(name, `an RSA public key in PEM format (${error.message})`);
  }
  // Base64url: four characters for three bytes.
  if (Math.floor((key.n.length * 3) / 4) < 256) refuse(name, "an RSA key of at least 2048 bits");
}

function integer(low, high) {
  return (value, name) => {
    if (!Number.isInteger(value) || value < low || value > high) refuse(name, `a whole number from ${low} to ${high}`);
  };
}

function oneOf(...values) {
  return (value, name) => {
    if (!values.includes(value)) refuse(name, `one of ${values.join(", ")}`);
  };
}

function optional(check) {
  return (value, name) => {
    if (value !== undefined && value !== null) check(value, name);
  };
}

/** A `validate` that accepts exactly these arguments. */
function takes(checks) {
  return (args) => {
    object(args, "args");
    for (const name of Object.keys(args))
      if (!Object.hasOwn(checks, name)) throw new Error(`${name} is not an argument of this action`);
    for (const [name, check] of Object.entries(checks)) check(args[name], name);
  };
}

function takesNothing(args) {
  if (args === null || args === undefined) return;
  if (typeof args === "object" && Object.keys(args).length === 0) return;
  throw new Error("this action takes no arguments");
}

// Shared rules.

/**
 * Marks every other open proposal as dropped: what they meant when members voted for them may have changed.
 */
function dropOtherProposals(proposalId) {
  const proposals = table("proposals_info");
  proposals.forEach((value, key) => {
    if (ccf.bufToStr(key) === proposalId) return;
    const info = ccf.bufToJsonCompatible(value);
    if (info.state !== "Open") return;
    info.state = "Dropped";
    proposals.set(key, ccf.jsonCompatibleToBuf(info));
  });
}

/** Active members by what they hold of the service's recovery: a share, all of it, or nothing. */
function recoveryMembers() {
  const count = { participants: 0, owners: 0 };
  table("members.encryption_public_keys").forEach((_, key) => {
    const info = readJson("members.info", key);
    if (info === undefined || info.status !== "Active") return;
    const role = info.recovery_role ?? "Participant";
    if (role === "Participant") count.participants++;
    if (role === "Owner") count.owners++;
  });
  return count;
}

/** The largest threshold that these members can meet. */
function thresholdMax({ participants, owners }) {
  if (participants > 0) return participants;
  return owners > 0 ? 1 : 0;
}

function isRecoveryMember(rawId, info) {
  if (!table("members.encryption_public_keys").has(rawId)) return false;
  return (info.recovery_role ?? "Participant") !== "NonParticipant";
}

/** Who holds shares does not change while shares are being collected. */
function refuseDuringRecovery() {
  const { status } = readOnly("service.info");
  if (status === "Recovering" || status === "WaitingForRecoveryShares")
    throw new Error(`this cannot be done while the service is ${status}`);
}

function countActive(tableName, status) {
  let count = 0;
  table(tableName).forEach((value) => {
    if (ccf.bufToJsonCompatible(value).status === status) count++;
  });
  return count;
}

/** Endorses a node's certificate for some days, the service's maximum unless fewer are asked for. */
function endorseNode(nodeId, info, validFrom, days) {
  if (info.certificate_signing_request === undefined)
    throw new Error(`node ${nodeId} has no certificate signing request`);
  const maximum = readOnly("service.config").maximum_node_certificate_validity_days ?? 365;
  if (days !== undefined && days !== null && days > maximum)
    throw new Error(`validity_period_days ${days} is more than this service allows: ${maximum}`);
  const endorsed = ccf.network.generateEndorsedCertificate(
    info.certificate_signing_request,
    validFrom,
    days ?? maximum,
  );
  table("nodes.endorsed_certificates").set(bytes(nodeId), bytes(endorsed));
}

const days = optional(integer(1, 36500));

const actions = new Map();

// Members.

const checkSetMember = takes({
  cert: certificate,
  encryption_pub_key: optional(encryptionKey),
  member_data: optional(object),
  recovery_role: optional(oneOf("NonParticipant", "Participant", "Owner")),
});

/** Admits a member, or takes one back to the state before its acknowledgement. */
actions.set(
  "set_member",
  new Action(
    (args) => {
      checkSetMember(args);
      const hasKey = args.encryption_pub_key !== undefined && args.encryption_pub_key !== null;
      const hasRole = args.recovery_role !== undefined && args.recovery_role !== null;
      if (hasRole && !hasKey) throw new Error("a recovery_role needs an encryption_pub_key");
    },
    (args) => {
      const id = bytes(ccf.pemToId(args.cert));
      const before = readJson("members.info", id);
      if (before !== undefined && before.status === "Active" && isRecoveryMember(id, before)) refuseDuringRecovery();

      table("members.certs").set(id, bytes(args.cert));
      if (args.encryption_pub_key !== undefined && args.encryption_pub_key !== null)
        table("members.encryption_public_keys").set(id, bytes(args.encryption_pub_key));
      else table("members.encryption_public_keys").delete(id);

      // The member must acknowledge the state before it counts.
      writeJson("members.info", id, {
        status: "Accepted",
        member_data: args.member_data ?? undefined,
        recovery_role: args.recovery_role ?? undefined,
      });
      const signature = ccf.kv["public:ccf.internal.signatures"].get(ONLY);
      const stateDigest = signature === undefined ? "" : ccf.bufToJsonCompatible(signature).root;
      writeJson("members.acks", id, { state_digest: stateDigest });
    },
  ),
);

/** Expels a member. Whoever stays must be able to recover the service. */
actions.set(
  "remove_member",
  new Action(takes({ member_id: entityId }), (args) => {
    const id = bytes(args.member_id);
    const info = readJson("members.info", id);
    if (info === undefined) return;

    const active = info.status === "Active";
    const holdsShare = active && isRecoveryMember(id, info);
    if (active && countActive("members.info", "Active") === 1)
      throw new Error("the last active member cannot be removed");
    if (holdsShare) refuseDuringRecovery();

    for (const name of ["members.info", "members.encryption_public_keys", "members.certs", "members.acks"])
      table(name).delete(id);

    if (holdsShare) {
      const { recovery_threshold } = readOnly("service.config");
      const left = recoveryMembers();
      if (thresholdMax(left) < recovery_threshold)
        throw new Error(
          `the members that are left (${left.participants} with a share, ${left.owners} owners) ` +
            `could not meet the recovery threshold of ${recovery_threshold}`,
        );
      // New shares of a new wrapping key: the old share opens nothing that is issued from now on.
      if (readOnly("service.info").status === "Open") ccf.node.triggerRecoverySharesRefresh();
    }
  }),
);

actions.set(
  "set_member_data",
  new Action(takes({ member_id: entityId, member_data: object }), (args) => {
    const id = bytes(args.member_id);
    const info = readJson("members.info", id);
    if (info === undefined) throw new Error(`member ${args.member_id} does not exist`);
    writeJson("members.info", id, { ...info, member_data: args.member_data });
  }),
);

// Recovery.

actions.set(
  "set_recovery_threshold",
  new Action(takes({ recovery_threshold: integer(1, 254) }), (args) => {
    refuseDuringRecovery();
    const config = readOnly("service.config");
    if (config.recovery_threshold === args.recovery_threshold) return;
    const open = readOnly("service.info").status === "Open";
    const maximum = thresholdMax(recoveryMembers());
    if (open && args.recovery_threshold > maximum)
      throw new Error(`the active recovery members can meet a threshold of ${maximum} at most`);
    writeJson("service.config", ONLY, { ...config, recovery_threshold: args.recovery_threshold });
    if (open) ccf.node.triggerRecoverySharesRefresh();
  }),
);

actions.set(
  "trigger_recovery_shares_refresh",
  new Action(takesNothing, () => {
    refuseDuringRecovery();
    ccf.node.triggerRecoverySharesRefresh();
  }),
);

// Users.

actions.set(
  "set_user",
  new Action(takes({ cert: certificate, user_data: optional(object) }), (args) => {
    const id = bytes(ccf.pemToId(args.cert));
    table("users.certs").set(id, bytes(args.cert));
    setUserData(id, args.user_data);
  }),
);

actions.set(
  "remove_user",
  new Action(takes({ user_id: entityId }), (args) => {
    const id = bytes(args.user_id);
    table("users.certs").delete(id);
    table("users.info").delete(id);
  }),
);

actions.set(
  "set_user_data",
  new Action(takes({ user_id: entityId, user_data: optional(object) }), (args) => {
    setUserData(bytes(args.user_id), args.user_data);
  }),
);

function setUserData(id, data) {
  if (data === undefined || data === null) table("users.info").delete(id);
  else writeJson("users.info", id, { user_data: data });
}

// Nodes.

/** Lets a node that has joined take part: from here on it holds the ledger and counts in every decision. */
actions.set(
  "transition_node_to_trusted",
  new Action(takes({ node_id: entityId, valid_from: string, validity_period_days: days }), (args) => {
    const id = bytes(args.node_id);
    const info = readJson("nodes.info", id);
    if (info === undefined) throw new Error(`no such node: ${args.node_id}`);
    if (info.status !== "Pending") return;
    info.status = "Trusted";
    info.ledger_secret_seqno = ccf.network.getLatestLedgerSecretSeqno();
    writeJson("nodes.info", id, info);
    endorseNode(args.node_id, info, args.valid_from, args.validity_period_days);
  }),
);

/** A node that has only asked to join is forgotten; one that takes part is retired. */
actions.set(
  "remove_node",
  new Action(takes({ node_id: entityId }), (args) => {
    const id = bytes(args.node_id);
    const info = readJson("nodes.info", id);
    if (info === undefined) return;
    if (info.status === "Pending") {
      table("nodes.info").delete(id);
      return;
    }
    if (info.status === "Trusted" && countActive("nodes.info", "Trusted") === 1)
      throw new Error("the last trusted node cannot be removed");
    writeJson("nodes.info", id, { ...info, status: "Retired" });
  }),
);

actions.set(
  "set_node_data",
  new Action(takes({ node_id: entityId, node_data: anything }), (args) => {
    const id = bytes(args.node_id);
    const info = readJson("nodes.info", id);
    if (info === undefined) throw new Error(`no such node: ${args.node_id}`);
    writeJson("nodes.info", id, { ...info, node_data: args.node_data });
  }),
);

actions.set(
  "set_node_certificate_validity",
  new Action(takes({ node_id: entityId, valid_from: string, validity_period_days: days }), (args) => {
    const info = readJson("nodes.info", bytes(args.node_id));
    if (info === undefined) throw new Error(`no such node: ${args.node_id}`);
    if (info.status !== "Trusted") throw new Error(`node ${args.node_id} is ${info.status}, not Trusted`);
    endorseNode(args.node_id, info, args.valid_from, args.validity_period_days);
  }),
);

actions.set(
  "set_all_nodes_certificate_validity",
  new Action(takes({ valid_from: string, validity_period_days: days }), (args) => {
    table("nodes.info").forEach((value, key) => {
      const info = ccf.bufToJsonCompatible(value);
      if (info.status === "Trusted")
        endorseNode(ccf.bufToStr(key), info, args.valid_from, args.validity_period_days);
    });
  }),
);

// What code a node may run.

actions.set(
  "add_virtual_measurement",
  new Action(takes({ measurement: string }), (args, proposalId) => {
    writeJson("nodes.virtual.measurements", bytes(args.measurement), "AllowedToJoin");
    dropOtherProposals(proposalId);
  }),
);

actions.set(
  "remove_virtual_measurement",
  new Action(takes({ measurement: string }), (args) => {
    table("nodes.virtual.measurements").delete(bytes(args.measurement));
  }),
);

actions.set(
  "add_virtual_host_data",
  new Action(takes({ host_data: digest }), (args, proposalId) => {
    table("nodes.virtual.host_data").set(bytes(args.host_data), PRESENT);
    dropOtherProposals(proposalId);
  }),
);

actions.set(
  "remove_virtual_host_data",
  new Action(takes({ host_data: digest }), (args) => {
    table("nodes.virtual.host_data").delete(bytes(args.host_data));
  }),
);

// The service.

/** Opens the service to users: recovery shares are issued to the active members. */
actions.set(
  "transition_service_to_open",
  new Action(
    (args) => {
      takes({ next_service_identity: certificate, previous_service_identity: optional(certificate) })(args);
      const recovering = readOnly("service.info").status === "Recovering";
      const hasPrevious = args.previous_service_identity !== undefined && args.previous_service_identity !== null;
      if (recovering && !hasPrevious)
        throw new Error("previous_service_identity is needed to open a service that is being recovered");
    },
    (args) => {
      const previous = args.previous_service_identity ?? undefined;
      ccf.node.transitionServiceToOpen(
        previous === undefined ? undefined : bytes(previous),
        bytes(args.next_service_identity),
      );
    },
  ),
);

/** Put first in a proposal, it binds the proposal to one service. */
actions.set(
  "assert_service_identity",
  new Action(
    (args) => {
      takes({ service_identity: certificate })(args);
      if (readOnly("service.info").cert !== args.service_identity)
        throw new Error("service_identity is not the certificate of this service");
    },
    () => {},
  ),
);

/** Replaces this very text. Other proposals were judged by the old one, so they are dropped. */
actions.set(
  "set_constitution",
  new Action(
    (args) => {
      takes({ constitution: string })(args);
      ccf.gov.validateConstitution(args.constitution);
    },
    (args, proposalId) => {
      writeJson("constitution", ONLY, args.constitution);
      dropOtherProposals(proposalId);
    },
  ),
);
