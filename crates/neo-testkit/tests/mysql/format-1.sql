/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `config` (
  `name` varbinary(64) NOT NULL,
  `value` mediumblob NOT NULL,
  PRIMARY KEY (`name`)
) ENGINE=InnoDB DEFAULT CHARSET=binary ROW_FORMAT=DYNAMIC;
/*!40101 SET character_set_client = @saved_cs_client */;
INSERT INTO `config` VALUES (0x636C7573746572,0x676F6C64656E);
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `data` (
  `id` bigint(20) unsigned NOT NULL,
  `compression` tinyint(3) unsigned NOT NULL,
  `checksum` binary(16) NOT NULL,
  `bytes` int(10) unsigned NOT NULL,
  `value` mediumblob NOT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=binary ROW_FORMAT=DYNAMIC;
/*!40101 SET character_set_client = @saved_cs_client */;
INSERT INTO `data` VALUES (1,0,0x0A1C6D4CF41EB499911FABA7321FE1A0,3,0x6F6E65);
INSERT INTO `data` VALUES (2,0,0x35D5C8CC887E4DA96C0560BDCB29998B,3,0x74776F);
INSERT INTO `data` VALUES (30,0,0xBBAF4DCF3A2DDE00FA4ECE189533BFC9,6,0x6C6F636B6564);
INSERT INTO `data` VALUES (32,0,0x658D590CBE3A4ADCBAB4BF425E5181B6,5,0x766F746564);
INSERT INTO `data` VALUES (50,0,0xE85A07AE8D2699A6BD9364F1BB248085,5,0x6C6F6F7365);
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `loose` (
  `id` bigint(20) unsigned NOT NULL,
  `reign` bigint(20) unsigned NOT NULL,
  `ttid` bigint(20) unsigned NOT NULL,
  PRIMARY KEY (`id`),
  KEY `owner` (`reign`,`ttid`,`id`)
) ENGINE=InnoDB DEFAULT CHARSET=binary ROW_FORMAT=DYNAMIC;
/*!40101 SET character_set_client = @saved_cs_client */;
INSERT INTO `loose` VALUES (30,3,30);
INSERT INTO `loose` VALUES (32,3,32);
INSERT INTO `loose` VALUES (50,3,50);
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `neo` (
  `id` tinyint(3) unsigned NOT NULL,
  `format` int(10) unsigned NOT NULL,
  `complete` tinyint(3) unsigned NOT NULL,
  `owner` binary(16) NOT NULL,
  `seq` bigint(20) unsigned NOT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=binary ROW_FORMAT=DYNAMIC;
/*!40101 SET character_set_client = @saved_cs_client */;
INSERT INTO `neo` VALUES (1,1,1,0xCC823736E6C411F1A41202FC00000001,7);
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `obj` (
  `part` int(10) unsigned NOT NULL,
  `oid` bigint(20) unsigned NOT NULL,
  `tid` bigint(20) unsigned NOT NULL,
  `data_id` bigint(20) unsigned DEFAULT NULL,
  `data_tid` bigint(20) unsigned DEFAULT NULL,
  `shared` tinyint(3) unsigned NOT NULL,
  PRIMARY KEY (`part`,`oid`,`tid`),
  KEY `history` (`part`,`tid`,`oid`)
) ENGINE=InnoDB DEFAULT CHARSET=binary ROW_FORMAT=DYNAMIC;
/*!40101 SET character_set_client = @saved_cs_client */;
INSERT INTO `obj` VALUES (0,2,10,2,NULL,1);
INSERT INTO `obj` VALUES (0,2,20,2,10,1);
INSERT INTO `obj` VALUES (1,1,10,1,NULL,0);
INSERT INTO `obj` VALUES (1,1,20,NULL,NULL,0);
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `pack_order` (
  `part` int(10) unsigned NOT NULL,
  `tid` bigint(20) unsigned NOT NULL,
  `value` mediumblob NOT NULL,
  PRIMARY KEY (`part`,`tid`)
) ENGINE=InnoDB DEFAULT CHARSET=binary ROW_FORMAT=DYNAMIC;
/*!40101 SET character_set_client = @saved_cs_client */;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `pending` (
  `reign` bigint(20) unsigned NOT NULL,
  `ttid` bigint(20) unsigned NOT NULL,
  `oid` bigint(20) unsigned NOT NULL,
  `kind` tinyint(3) unsigned NOT NULL,
  `n` bigint(20) unsigned NOT NULL,
  PRIMARY KEY (`reign`,`ttid`,`oid`)
) ENGINE=InnoDB DEFAULT CHARSET=binary ROW_FORMAT=DYNAMIC;
/*!40101 SET character_set_client = @saved_cs_client */;
INSERT INTO `pending` VALUES (3,30,30,1,30);
INSERT INTO `pending` VALUES (3,32,32,1,32);
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `piece` (
  `kind` tinyint(3) unsigned NOT NULL,
  `a` bigint(20) unsigned NOT NULL,
  `b` bigint(20) unsigned NOT NULL,
  `n` int(10) unsigned NOT NULL,
  `value` mediumblob NOT NULL,
  PRIMARY KEY (`kind`,`a`,`b`,`n`)
) ENGINE=InnoDB DEFAULT CHARSET=binary ROW_FORMAT=DYNAMIC;
/*!40101 SET character_set_client = @saved_cs_client */;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `pt` (
  `part` int(10) unsigned NOT NULL,
  `nid` int(10) unsigned NOT NULL,
  `state` tinyint(3) unsigned NOT NULL,
  `reign` bigint(20) unsigned NOT NULL,
  `ptid` bigint(20) unsigned NOT NULL,
  PRIMARY KEY (`part`,`nid`)
) ENGINE=InnoDB DEFAULT CHARSET=binary ROW_FORMAT=DYNAMIC;
/*!40101 SET character_set_client = @saved_cs_client */;
INSERT INTO `pt` VALUES (0,1,1,3,2);
INSERT INTO `pt` VALUES (1,1,1,3,2);
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `pt_head` (
  `id` tinyint(3) unsigned NOT NULL,
  `np` int(10) unsigned NOT NULL,
  `reign` bigint(20) unsigned NOT NULL,
  `ptid` bigint(20) unsigned NOT NULL,
  `replicas` int(10) unsigned NOT NULL,
  `last_storage` int(10) unsigned NOT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=binary ROW_FORMAT=DYNAMIC;
/*!40101 SET character_set_client = @saved_cs_client */;
INSERT INTO `pt_head` VALUES (1,2,3,2,0,0);
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `trans` (
  `part` int(10) unsigned NOT NULL,
  `tid` bigint(20) unsigned NOT NULL,
  `reign` bigint(20) unsigned DEFAULT NULL,
  `ttid` bigint(20) unsigned DEFAULT NULL,
  `packed` tinyint(3) unsigned NOT NULL,
  `user` mediumblob NOT NULL,
  `description` mediumblob NOT NULL,
  `extension` mediumblob NOT NULL,
  `oid_bytes` int(10) unsigned NOT NULL,
  `oids` mediumblob NOT NULL,
  PRIMARY KEY (`part`,`tid`),
  KEY `name` (`part`,`ttid`,`reign`)
) ENGINE=InnoDB DEFAULT CHARSET=binary ROW_FORMAT=DYNAMIC;
/*!40101 SET character_set_client = @saved_cs_client */;
INSERT INTO `trans` VALUES (0,10,NULL,NULL,1,0x736F6D65626F6479,0x676F6C64656E,'',16,0x00000000000000010000000000000002);
INSERT INTO `trans` VALUES (0,20,3,18,0,0x736F6D65626F6479,0x676F6C64656E,'',16,0x00000000000000010000000000000002);
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `unfinished` (
  `reign` bigint(20) unsigned NOT NULL,
  `ttid` bigint(20) unsigned NOT NULL,
  `tid` bigint(20) unsigned DEFAULT NULL,
  `packed` tinyint(3) unsigned DEFAULT NULL,
  `user` mediumblob DEFAULT NULL,
  `description` mediumblob DEFAULT NULL,
  `extension` mediumblob DEFAULT NULL,
  `oid_bytes` int(10) unsigned DEFAULT NULL,
  `oids` mediumblob DEFAULT NULL,
  `pack_order` mediumblob DEFAULT NULL,
  PRIMARY KEY (`reign`,`ttid`)
) ENGINE=InnoDB DEFAULT CHARSET=binary ROW_FORMAT=DYNAMIC;
/*!40101 SET character_set_client = @saved_cs_client */;
INSERT INTO `unfinished` VALUES (3,30,40,0,0x756E66696E6973686564,0x676F6C64656E,'',8,0x000000000000001E,NULL);
INSERT INTO `unfinished` VALUES (3,32,NULL,0,0x756E66696E6973686564,0x676F6C64656E,'',8,0x0000000000000020,NULL);
